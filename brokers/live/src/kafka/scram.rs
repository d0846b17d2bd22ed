//! SCRAM-SHA-256 and SCRAM-SHA-512, a client's side (RFC 5802 and 7677), without channel binding.
//!
//! Leaves out sending, and preparing names and passwords beyond escaping: they are taken as they are written.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

/// Which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// The last key that was derived, since deriving costs some milliseconds and every connection needs it.
#[derive(Debug, Default)]
pub(super) struct Derived(Mutex<Option<(String, Vec<u8>)>>);

/// A client's side of one exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    hash: Hash,
    bare: String,
    nonce: String,
    /// What the server has to prove in its last message.
    proof: Vec<u8>,
}

impl Hash {
    fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().to_vec(),
            Self::Sha512 => parts.iter().fold(Sha512::new(), Digest::chain_update).finalize().to_vec(),
        }
    }

    fn mac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let block = match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        };
        let mut padded = if key.len() > block { self.of(&[key]) } else { key.to_vec() };
        padded.resize(block, 0);
        let xored = |byte: u8| padded.iter().map(|key| key ^ byte).collect::<Vec<u8>>();
        let (inner, outer) = (xored(0x36), xored(0x5c));
        let all: Vec<&[u8]> = std::iter::once(&inner[..]).chain(parts.iter().copied()).collect();
        self.of(&[&outer, &self.of(&all)])
    }

    /// PBKDF2 with one block.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut last = self.mac(password, &[salt, &1u32.to_be_bytes()]);
        let mut sum = last.clone();
        for _ in 1..iterations {
            last = self.mac(password, &[&last]);
            sum.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    }
}

impl Exchange {
    /// Begins, with the first message.
    pub(super) fn begin(hash: Hash, user: &str, nonce: &str) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let first = format!("n,,{bare}");
        (Self { hash, bare, nonce: nonce.to_owned(), proof: Vec::new() }, first)
    }

    /// Answers the server's first message, or says what is wrong with it.
    pub(super) fn answer(&mut self, password: &str, derived: &Derived, first: &str) -> Result<String, String> {
        let field = |name: &str| first.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_default();
        let nonce = field("r=");
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's nonce does not continue ours".to_owned());
        }
        let salt = STANDARD.decode(field("s=")).map_err(|error| format!("the server's salt is none ({error})"))?;
        // RFC 7677 asks for 4096 at least; the most keeps a hostile server from holding us up.
        let iterations: u32 = field("i=")
            .parse()
            .ok()
            .filter(|n| (4_096..=1_000_000).contains(n))
            .ok_or("the server's iterations are none")?;
        let salted = self.key(password, derived, &salt, iterations);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{first},{without_proof}", self.bare);
        let client = self.hash.mac(&salted, &[b"Client Key"]);
        let mut proof = self.hash.mac(&self.hash.of(&[&client]), &[signed.as_bytes()]);
        proof.iter_mut().zip(&client).for_each(|(proof, key)| *proof ^= key);
        self.proof = self.hash.mac(&self.hash.mac(&salted, &[b"Server Key"]), &[signed.as_bytes()]);
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    fn key(&self, password: &str, derived: &Derived, salt: &[u8], iterations: u32) -> Vec<u8> {
        let name = format!("{:?} {iterations} {}", self.hash, STANDARD.encode(salt));
        let mut kept = derived.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = kept.as_ref().filter(|(of, _)| *of == name) {
            return key.clone();
        }
        let key = self.hash.salted(password.as_bytes(), salt, iterations);
        *kept = Some((name, key.clone()));
        key
    }

    /// Whether the server's last message proves that it knows the password too.
    pub(super) fn check(&self, last: &str) -> Result<(), String> {
        let given = last.strip_prefix("v=").and_then(|text| STANDARD.decode(text.split(',').next()?).ok());
        if given.is_some_and(|given| given == self.proof) {
            Ok(())
        } else {
            Err("the server does not prove that it knows the password".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_rfc_7677_is_reproduced() {
        let (mut exchange, first) = Exchange::begin(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = exchange.answer("pencil", &Derived::default(), server).unwrap();
        let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(answer, format!("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,{proof}"));
        assert_eq!(exchange.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert!(exchange.check("v=AAAA").is_err());
    }

    #[test]
    fn a_foreign_nonce_and_too_few_iterations_are_refused() {
        let (mut exchange, _) = Exchange::begin(Hash::Sha512, "a=b,c", "ours");
        assert!(exchange.bare.starts_with("n=a=3Db=2Cc,"));
        for first in ["r=theirs,s=AAAA,i=4096", "r=ours,s=AAAA,i=4096", "r=oursmore,s=AAAA,i=1"] {
            assert!(exchange.answer("x", &Derived::default(), first).is_err(), "{first}");
        }
    }
}
