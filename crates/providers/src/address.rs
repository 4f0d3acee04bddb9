use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads, as far as it decides whether to go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Anywhere on the public internet.
    Public,
    /// This host or its own network: loopback, RFC 1918, carrier NAT, unique
    /// local. Reached only where a deployment says so.
    Internal,
    /// Nowhere that can be evidence: link-local (where clouds hand out
    /// credentials), metadata services, multicast, documentation, relays,
    /// reserved and unassigned space.
    Never,
}

/// Where `address` leads.
///
/// An IPv4 address inside an IPv6 one is judged as what it is, since that is
/// where the packets go. Of IPv6 only 2000::/3 is assigned for use; the
/// exceptions are IANA's special-purpose registries.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

#[rustfmt::skip]
const INTERNAL_V4: [([u8; 4], u32); 5] = [
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),      // carrier NAT
    ([127, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
];

#[rustfmt::skip]
const NEVER_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([100, 100, 100, 200], 32), // metadata, Alibaba
    ([168, 63, 129, 16], 32),   // metadata, Azure
    ([169, 254, 0, 0], 16),     // link-local, metadata elsewhere
    ([192, 0, 0, 0], 24),       // protocol assignments
    ([192, 0, 2, 0], 24),       // documentation
    ([192, 31, 196, 0], 24),    // AS112
    ([192, 52, 193, 0], 24),    // AMT
    ([192, 88, 99, 0], 24),     // 6to4 relays
    ([192, 175, 48, 0], 24),    // AS112
    ([198, 18, 0, 0], 15),      // benchmarking
    ([198, 51, 100, 0], 24),    // documentation
    ([203, 0, 113, 0], 24),     // documentation
    ([224, 0, 0, 0], 4),        // multicast
    ([240, 0, 0, 0], 4),        // reserved, broadcast
];

fn reach_v4(address: Ipv4Addr) -> Reach {
    let within = |&(network, bits): &([u8; 4], u32)| {
        let differ = address.to_bits() ^ u32::from_be_bytes(network);
        differ.leading_zeros() >= bits
    };
    if NEVER_V4.iter().any(within) {
        Reach::Never
    } else if INTERNAL_V4.iter().any(within) {
        Reach::Internal
    } else {
        Reach::Public
    }
}

#[rustfmt::skip]
const NEVER_V6: [([u16; 8], u32); 6] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),           // protocol assignments: Teredo, benchmarking, ORCHID, drones
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),       // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),           // 6to4
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48),   // AS112
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),           // documentation
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),  // metadata, AWS
];

fn reach_v6(address: Ipv6Addr) -> Reach {
    let within = |network: [u16; 8], bits: u32| {
        let differ = address.to_bits() ^ Ipv6Addr::from(network).to_bits();
        differ.leading_zeros() >= bits
    };
    // Mapped (RFC 4291) and NAT64 (RFC 6052) are in use: a host without IPv4
    // sees the whole of it through them. Of the other forms that hold an IPv4
    // address, 6to4 and Teredo lead through somebody's relay and the
    // compatible form was given up, so they are refused whatever they hold.
    let nat64 = within([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
    if nat64 || within([0, 0, 0, 0, 0, 0xffff, 0, 0], 96) {
        return reach_v4(Ipv4Addr::from_bits(address.to_bits() as u32));
    }
    let assigned = within([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
    let local = address.is_loopback() || within([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7);
    if NEVER_V6.iter().any(|&(network, bits)| within(network, bits)) || !(assigned || local) {
        Reach::Never
    } else if local {
        Reach::Internal
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        use Reach::{Internal, Never};
        #[rustfmt::skip]
        let rows = [
            // Every IPv4 range, first and last.
            ("0.0.0.0", Never), ("0.1.2.3", Never), ("0.255.255.255", Never),
            ("10.0.0.0", Internal), ("10.255.255.255", Internal),
            ("100.64.0.0", Internal), ("100.127.255.255", Internal), ("100.100.100.200", Never),
            ("127.0.0.0", Internal), ("127.0.0.1", Internal), ("127.255.255.255", Internal),
            ("168.63.129.16", Never),
            ("169.254.0.0", Never), ("169.254.169.254", Never), ("169.254.255.255", Never),
            ("172.16.0.0", Internal), ("172.31.255.255", Internal),
            ("192.0.0.0", Never), ("192.0.0.8", Never), ("192.0.0.192", Never), ("192.0.0.255", Never),
            ("192.0.2.1", Never), ("192.0.2.255", Never),
            ("192.31.196.1", Never), ("192.52.193.1", Never), ("192.88.99.1", Never), ("192.175.48.1", Never),
            ("192.168.0.0", Internal), ("192.168.255.255", Internal),
            ("198.18.0.0", Never), ("198.19.255.255", Never),
            ("198.51.100.0", Never), ("198.51.100.255", Never),
            ("203.0.113.0", Never), ("203.0.113.255", Never),
            ("224.0.0.1", Never), ("239.255.255.255", Never),
            ("240.0.0.1", Never), ("255.255.255.255", Never),
            // IPv4 inside IPv6.
            ("::ffff:127.0.0.1", Internal), ("::ffff:7f00:1", Internal), ("::ffff:169.254.169.254", Never),
            ("::ffff:10.0.0.1", Internal), ("::ffff:0.0.0.0", Never), ("::ffff:100.64.0.1", Internal),
            ("::127.0.0.1", Never), ("::169.254.169.254", Never), ("::8.8.8.8", Never),
            ("64:ff9b::a9fe:a9fe", Never), ("64:ff9b::7f00:1", Internal), ("64:ff9b::10.0.0.1", Internal),
            ("64:ff9b:1::1", Never), ("64:ff9b:1:ffff::8.8.8.8", Never), ("64:ff9b::1:0:0", Never),
            ("2002:7f00:1::", Never), ("2002:a9fe:a9fe::1", Never), ("2002:0808:0808::1", Never),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", Never), ("2001::1", Never),
            ("::ffff:0:127.0.0.1", Never),
            // The rest of IPv6.
            ("::", Never), ("::1", Internal), ("::2", Never),
            ("fe80::1", Never), ("febf::1", Never), ("fec0::1", Never), ("feff::1", Never),
            ("fc00::1", Internal), ("fdff::1", Internal), ("fd00:ec2::254", Never),
            ("ff00::", Never), ("ff02::1", Never), ("ff0e::1", Never),
            ("2001:db8::1", Never), ("2001:10::1", Never), ("2001:20::1", Never), ("2001:30::1", Never),
            ("2001:2::1", Never), ("2001:1ff:ffff::1", Never), ("2001:1::1", Never),
            ("2620:4f:8000::1", Never), ("3fff::1", Never), ("3fff:fff:ffff::1", Never),
            ("100::1", Never), ("100:0:0:1::1", Never), ("5f00::1", Never), ("4000::1", Never), ("e000::1", Never),
        ];
        for (text, expected) in rows {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
        assert!(rows.len() >= 60);
    }

    #[test]
    fn neighbours_of_special_ranges_are_public() {
        #[rustfmt::skip]
        let public = [
            "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
            "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0",
            "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0",
            "223.255.255.255", "168.63.129.17",
            "2606:4700:4700::1111", "2001:4860:4860::8888", "2001:200::1", "2003::1", "2620:4f:8001::1", "3ffe::1",
            "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
        ];
        for text in public {
            assert_eq!(reach(text.parse().unwrap()), Reach::Public, "{text}");
        }
    }
}
