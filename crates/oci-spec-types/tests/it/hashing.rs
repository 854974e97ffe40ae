//! Digests of content, in one piece and in several.

use oci_spec_types::{Algorithm, Digest, HashStateError, Hasher, VerifyError};

const EMPTY_SHA256: &str =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC_SHA512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                          2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

#[test]
fn known_digests() {
    assert_eq!(Digest::sha256(b"").as_str(), EMPTY_SHA256);
    assert_eq!(Algorithm::Sha512.digest(b"abc").as_str(), ABC_SHA512);
    assert_eq!(Algorithm::default(), Algorithm::Sha256);
    ABC_SHA512.parse::<Digest>().unwrap().verify(b"abc").unwrap();
}

#[test]
fn a_mismatch_names_both_digests() {
    let expected = Digest::sha256(b"hello");
    let mut verifier = expected.verifier().unwrap();
    verifier.update(b"hell");
    let error = verifier.finish().unwrap_err();
    assert_eq!(
        error,
        VerifyError::Mismatch { expected: expected.clone(), actual: Digest::sha256(b"hell") }
    );
    assert!(error.to_string().contains(expected.as_str()));
}

#[test]
fn an_algorithm_that_cannot_be_computed_is_named() {
    let digest: Digest = format!("blake3:{}", "0".repeat(64)).parse().unwrap();
    assert_eq!((digest.algorithm(), digest.known_algorithm()), ("blake3", None));
    let error = digest.verify(b"").unwrap_err();
    assert!(
        matches!(error, VerifyError::Unsupported(_)) && error.to_string().contains("blake3"),
        "{error}"
    );
    assert!(digest.verifier().is_err());
}

#[test]
fn broken_states_are_refused() {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let mut hasher = algorithm.hasher();
        hasher.update(&[7; 100]);
        let saved = hasher.save();
        let change = |at: usize, to: u8| {
            let mut changed = saved.clone();
            changed[at] = to;
            Hasher::restore(&changed).map(drop)
        };
        assert_eq!(change(0, 0), Err(HashStateError::Format(0)));
        assert_eq!(change(0, 2), Err(HashStateError::Format(2)));
        assert_eq!(change(1, 9), Err(HashStateError::Algorithm(9)));
        for end in 0..saved.len() {
            assert!(Hasher::restore(&saved[..end]).is_err(), "{end} bytes");
        }
        assert!(Hasher::restore(&[saved.as_slice(), &[0]].concat()).is_err());

        // A block count that would overflow inside the hash function, and a buffer longer than a block.
        let (count, buffer) =
            if algorithm == Algorithm::Sha256 { (34..42, 42) } else { (66..82, 82) };
        assert_eq!(change(count.end - 1, 0xFF), Err(HashStateError::Corrupt));
        assert_eq!(change(count.start + 6, 2), Err(HashStateError::Corrupt));
        assert_eq!(change(buffer, 0xFF), Err(HashStateError::Corrupt));
    }
}

#[test]
fn the_saved_format_does_not_change() {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&[b'a'; 65]);
    let saved = hasher.save();
    assert_eq!(&saved[..2], [1, 1]);
    assert_eq!(&saved[34..42], 1_u64.to_le_bytes(), "one block seen");
    assert_eq!(&saved[42..44], [1, b'a'], "one byte waiting");
    assert_eq!(saved.len(), 106);
}
