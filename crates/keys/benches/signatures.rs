//! What one check of a signature costs, in CPU of this thread. The peer is
//! `openssl speed ecdsap256`, asked in turn with ours. Goals: Ed25519 at most
//! 60 µs; P-256 at most 5 × what OpenSSL takes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::process::Command;

use runpack_core::trust::Algorithm;
use runpack_keys::{SecretKey, Signer as _};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 7;
const CHECKS: u32 = 3_000;

/// Bytes of a message: about what is signed of a pack.
const MESSAGE_BYTES: usize = 1_000;

fn main() {
    let message = vec![b'm'; MESSAGE_BYTES];
    let check = |algorithm| {
        let key = SecretKey::generate(algorithm).unwrap();
        let signature = key.sign(&message).unwrap();
        let began = cpu_micros();
        for _ in 0..CHECKS {
            assert!(key.public().verifies(black_box(&message), black_box(&signature)));
        }
        (cpu_micros() - began) / f64::from(CHECKS)
    };
    let (mut ed25519, mut p256, mut peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ed25519.push(check(Algorithm::Ed25519));
        let ours = check(Algorithm::P256);
        p256.push(ours);
        if let Some(theirs) = openssl() {
            peer.push(theirs);
            ratios.push(ours / theirs);
        }
    }
    println!("one check of a signature over {MESSAGE_BYTES} bytes, CPU, median of {ROUNDS} rounds");
    println!("  Ed25519, strict   {:6.1} µs (goal: at most 60)", median(ed25519));
    println!("  ECDSA P-256       {:6.1} µs", median(p256));
    if ratios.is_empty() {
        println!("absent: openssl, which the ratio needs");
        return;
    }
    println!("  openssl speed     {:6.1} µs", median(peer));
    println!("  ratio             {:6.2} (goal: at most 5.00)", median(ratios));
}

/// Microseconds of CPU of this thread.
fn cpu_micros() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

/// Microseconds of CPU of one verification, as OpenSSL counts them.
fn openssl() -> Option<f64> {
    let said = Command::new("openssl").args(["speed", "-mr", "-seconds", "1", "ecdsap256"]).output().ok()?;
    // `+F4:<number>:<bits>:<signatures>:<verifications>`, each in a second; older
    // versions tell the seconds of one.
    let text = String::from_utf8(said.stdout).ok()?;
    let line = text.lines().find(|line| line.starts_with("+F4:"))?;
    let told: f64 = line.split(':').nth(4)?.parse().ok()?;
    Some(if told > 1.0 { 1e6 / told } else { told * 1e6 })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
