//! SHA-256: by it the server knows a series, a new agent gets its id, and shards divide the devices.
//!
//! The only file that names the crate `ring`, which TLS brings along. What is computed here is kept on disk and at the server:
//! it must never change.

use ring::digest::{Context, SHA256};

/// The digest of these texts one after the other.
#[must_use]
pub fn sha256(texts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(text);
    }
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_another_implementation_whatever_the_length_and_however_cut() {
        use sha2::{Digest as _, Sha256};

        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..=bytes.len() {
            let (whole, cut) = (&bytes[..length], bytes[..length].split_at(length / 3));
            let right: [u8; 32] = Sha256::digest(whole).into();
            assert_eq!([sha256(&[whole]), sha256(&[cut.0, cut.1])], [right; 2], "{length}");
        }
    }
}
