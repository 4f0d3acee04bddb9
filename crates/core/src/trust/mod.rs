//! Who says so: public keys, signed envelopes, and whose signature counts.
//!
//! Only checking is here, and nothing that is secret. Signing hands in what was
//! signed; times are arguments. Nothing here knows packs: what a signature says
//! about one is in [`crate::pack`].

mod dsse;
pub mod evidence;
mod key;
mod policy;

pub use dsse::{ENVELOPE_BYTES_MAX, Envelope, EnvelopeFault, SIGNATURES_MAX, Signature, pae};
pub use key::{Algorithm, KeyFault, PublicKey};
pub use policy::{
    EvidenceRule, KeyTable, PolicyFault, Refused, Required, Signed, Standing, TrustPolicy, TrustTable, TrustedKey,
};
