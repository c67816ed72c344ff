//! The page for people at `/`: its files, and what a browser may do with them.
//!
//! The files are part of the program. Each but the page itself is at `assets/{version}/{name}`, where the version is a
//! hash of them all: a browser keeps them for good, and one with another page never gets files of this one.
//!
//! Deliberately absent: data. The page gets all of it from the API, as any other client.

use std::borrow::Cow;
use std::sync::LazyLock;

use aws_lambda_events::apigw::ApiGatewayProxyRequest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::response::Representation;

/// What the page may load and do (<https://www.w3.org/TR/CSP3/>): what is from here, and nothing inline. Trusted types
/// keep its own scripts from making markup out of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           base-uri 'self'; form-action 'none'; frame-ancestors 'none'; \
                           require-trusted-types-for 'script'; trusted-types 'none'";
/// What is at the address of an asset never changes.
const FOR_GOOD: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

const PAGE: &str = include_str!("../page/index.html");

/// A file that the page loads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

macro_rules! assets {
    ($($name:literal: $media_type:expr,)*) => {
        &[$(Asset {
            name: $name,
            media_type: $media_type,
            content: include_str!(concat!("../page/", $name)),
        },)*]
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = assets! {
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "chart.js": SCRIPT,
    "dom.js": SCRIPT,
    "icon.svg": "image/svg+xml",
    "list_view.js": SCRIPT,
    "patient_view.js": SCRIPT,
    "patients.js": SCRIPT,
    "pipeline_view.js": SCRIPT,
    "refresh.js": SCRIPT,
    "style.css": "text/css; charset=utf-8",
    "time.js": SCRIPT,
};

/// A hash of all assets.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in ASSETS {
        for part in [asset.name, asset.content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (part, _) = hash.split_at(9);
    BASE64_URL_SAFE_NO_PAD.encode(part)
});

/// The asset of this version and name, if there is one.
pub(crate) fn asset(version: &str, name: &str) -> Option<&'static Asset> {
    ASSETS
        .iter()
        .find(|asset| asset.name == name && version == VERSION.as_str())
}

impl Asset {
    /// As it is sent.
    pub(crate) fn representation(&self) -> Representation {
        Representation {
            cache_control: FOR_GOOD,
            ..Representation::revalidated(self.media_type, self.content)
        }
    }
}

/// It needs nothing of the device that it is shown on. (Most others of these features need a gesture, or the page's own
/// script, which has none of them.)
const NOTHING_OF_THE_DEVICE: &str =
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()";

/// The page itself. Its addresses are relative to where the request says that the API is.
pub(crate) fn page(request: &ApiGatewayProxyRequest) -> Representation {
    let assets = format!("assets/{}", VERSION.as_str());
    let page = PAGE
        .replace("{{base}}", &base(request.request_context.path.as_deref()))
        .replace("{{assets}}", &assets);
    Representation {
        content_security_policy: POLICY,
        permissions_policy: Some(NOTHING_OF_THE_DEVICE),
        ..Representation::revalidated("text/html; charset=utf-8", page)
    }
}

/// The path of the page as the client sees it, with the stage and with a slash at its end, for which API Gateway does
/// not care. What could be more than a path gives `/`: the path comes from the client, and goes into markup.
fn base(path: Option<&str>) -> Cow<'_, str> {
    let is_plain = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
    };
    match path.filter(is_plain) {
        None => "/".into(),
        Some(path) if path.ends_with('/') => path.into(),
        Some(path) => format!("{path}/").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_relative_to_the_stage() {
        #[track_caller]
        fn check(path: Option<&str>, expected: &str) {
            assert_eq!(base(path), expected, "{path:?}");
        }
        check(Some("/"), "/");
        check(Some("/v1"), "/v1/");
        check(Some("/v1/"), "/v1/");
        check(Some("/check-ins/v1"), "/check-ins/v1/");
        for not_a_path in [
            "",
            "v1",
            "//evil.example",
            "/\"><script>",
            "/a&b",
            "/a b",
            "/%22",
            "/é",
        ] {
            check(Some(not_a_path), "/");
        }
        check(None, "/");
    }

    #[test]
    fn page_names_only_assets_that_there_are_and_each_is_named() {
        let page = page(&ApiGatewayProxyRequest::default()).body.into_owned();
        let own = format!("=\"assets/{}/", VERSION.as_str());
        let named: Vec<&str> = page
            .split(own.as_str())
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        for name in &named {
            assert!(asset(&VERSION, name).is_some(), "{name}");
        }
        for Asset { name, .. } in ASSETS {
            // This one is loaded only where there is something to see.
            let is_named = named.contains(name) || *name == "pipeline_view.js";
            assert!(is_named, "{name} would be found only after another was read");
        }
        assert!(!page.contains("{{"), "{page}");
    }

    #[test]
    fn scripts_import_only_assets_that_there_are() {
        for Asset { name, content, .. } in ASSETS {
            for rest in content.split("\"./").skip(1) {
                let imported = rest.split('"').next().unwrap();
                assert!(asset(&VERSION, imported).is_some(), "{name} imports {imported}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_nor_from_elsewhere() {
        assert!(
            !PAGE.contains(" style=") && !PAGE.contains("<style") && !PAGE.contains(" on"),
            "inline"
        );
        assert_eq!(PAGE.matches("<script").count(), 1);
        for text in ASSETS.iter().map(|asset| asset.content).chain([PAGE]) {
            for rest in text.split("://").skip(1) {
                assert!(
                    rest.starts_with("www.w3.org/2000/svg"),
                    "{}",
                    &rest[..40.min(rest.len())]
                );
            }
        }
    }

    #[test]
    fn an_asset_of_another_version_is_not_there() {
        assert!(asset("other", "app.js").is_none());
        assert!(asset(&VERSION, "app.css").is_none());
        assert!(asset(&VERSION, "app.js").is_some());
    }
}
