//! Whom the functions trust (`services/amazon-trust-services.pem`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const TRUSTED: &str = include_str!("../../amazon-trust-services.pem");

/// SHA-256 of each root, as <https://www.amazontrust.com/repository/> has them.
const PUBLISHED: [(&str, &str); 5] = [
    (
        "Amazon Root CA 1",
        "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    ),
    (
        "Amazon Root CA 2",
        "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
    ),
    (
        "Amazon Root CA 3",
        "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
    ),
    (
        "Amazon Root CA 4",
        "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
    ),
    (
        "Starfield Services Root Certificate Authority - G2",
        "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
    ),
];

#[test]
fn the_functions_trust_amazons_roots_and_nobody_else() {
    let found: Vec<(String, String)> = TRUSTED
        .split("\n# ")
        .filter_map(|part| part.split_once("\n-----BEGIN CERTIFICATE-----\n"))
        .map(|(name, rest)| {
            let (encoded, _) = rest.split_once("-----END CERTIFICATE-----").unwrap();
            let certificate = BASE64_STANDARD.decode(encoded.replace('\n', "")).unwrap();
            let hash: [u8; 32] = Sha256::digest(certificate).into();
            (name.to_owned(), hash.map(|byte| format!("{byte:02x}")).concat())
        })
        .collect();
    let published = PUBLISHED.map(|(name, hash)| (name.to_owned(), hash.to_owned()));
    assert_eq!(found, published);
    assert_eq!(TRUSTED.matches("BEGIN CERTIFICATE").count(), published.len());
}
