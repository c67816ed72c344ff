//! Entity tags (RFC 9110, section 8.8.3): whether a client has a representation already.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The strong entity tag of a body, in its quotes: half of its SHA-256, which no two bodies ever share.
#[must_use]
pub fn of(body: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    let (half, _) = hash.split_at(hash.len() / 2);
    format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(half))
}

/// Whether an `If-None-Match` names this tag: by `*`, or in its list, where `W/` does not matter. What is not of
/// that form names nothing, so that the client gets the whole representation.
#[must_use]
pub fn is_named(etag: &str, if_none_match: &str) -> bool {
    if if_none_match.trim() == "*" {
        return true;
    }
    let mut rest = if_none_match;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        rest = rest.strip_prefix("W/").unwrap_or(rest);
        // A tag may contain a comma, so its quotes are what ends it.
        let Some((opaque, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
            return false;
        };
        if etag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(opaque) {
            return true;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_body_has_one_tag() {
        assert_eq!(of("abc"), "\"ungWv48Bz-pBQUDeXa4iIw\"");
        assert_ne!(of("abc"), of("abd"));
    }

    #[test]
    fn the_tag_is_found_in_any_list() {
        for named in [
            "\"a,b\"",
            "W/\"a,b\"",
            "*",
            " * ",
            "\"x\", \"a,b\"",
            "\"x\",W/\"y\" ,\t\"a,b\"",
            ", \"a,b\"",
        ] {
            assert!(is_named("\"a,b\"", named), "{named}");
        }
        for other in [
            "",
            "a,b",
            "\"a",
            "\"a\",\"b\"",
            "\"a,b",
            "w/\"a,b\"",
            "\"x\" y \"a,b\"",
            "**",
            ",",
            "W/",
        ] {
            assert!(!is_named("\"a,b\"", other), "{other}");
        }
    }
}
