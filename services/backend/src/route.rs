//! Which resource a path names.

use percent_encoding::percent_decode_str;

use crate::page::{self, Asset};

/// A resource, and the pattern of the path that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// What may be logged, where the path itself names a patient.
    pub(crate) pattern: &'static str,
    pub(crate) resource: Resource,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Patients,
    /// What stands in the place of the id need not be one.
    Patient(String),
    /// Likewise.
    Checkins(String),
    Health,
    Document,
    Page,
    /// Not in `openapi.json`: only the page knows their paths.
    Asset(&'static Asset),
}

/// Makes the resource, given what stands in the place of the id (nothing, if the pattern has none).
type Make = fn(String) -> Resource;

/// Every path there is, as `openapi.json` has them.
pub(crate) const ROUTES: &[(&str, Make)] = &[
    ("/patients", |_| Resource::Patients),
    ("/patients/{id}", Resource::Patient),
    ("/patients/{id}/checkins", Resource::Checkins),
    ("/health", |_| Resource::Health),
    ("/openapi.json", |_| Resource::Document),
    ("/", |_| Resource::Page),
];

impl Route {
    /// The resource at this path, which is percent-encoded and without the stage, as API Gateway's `path` is. Only
    /// one spelling names a resource: no empty segments, and so no slash at the end. (But each segment may be
    /// percent-encoded, which RFC 3986 makes the same spelling.)
    pub(crate) fn of(path: &str) -> Option<Route> {
        let segments = path
            .strip_prefix('/')?
            .split('/')
            .map(|segment| Some(percent_decode_str(segment).decode_utf8().ok()?.into_owned()))
            .collect::<Option<Vec<String>>>()?;
        if let [folder, version, name] = segments.as_slice()
            && folder == "assets"
        {
            return page::asset(version, name).map(|asset| Route {
                pattern: "/assets/{version}/{name}",
                resource: Resource::Asset(asset),
            });
        }
        ROUTES.iter().find_map(|(pattern, make)| {
            let id = id_in(pattern, &segments)?;
            let resource = make(id.to_owned());
            Some(Route { pattern, resource })
        })
    }
}

/// What stands in the place of the id, if the path is of this pattern.
fn id_in<'a>(pattern: &str, path: &'a [String]) -> Option<&'a str> {
    let mut segments = path.iter();
    let mut id = "";
    for expected in pattern.trim_start_matches('/').split('/') {
        let found = segments.next()?;
        match expected {
            "{id}" if !found.is_empty() => id = found,
            _ if expected == found => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "what is expected is made for one call"
    )]
    fn check(path: &str, expected: Option<(&str, Resource)>) {
        let found = Route::of(path).map(|route| (route.pattern, route.resource));
        assert_eq!(found, expected, "{path}");
    }

    fn patient(id: &str) -> Option<(&str, Resource)> {
        Some(("/patients/{id}", Resource::Patient(id.to_owned())))
    }

    #[test]
    fn a_path_names_a_resource_in_one_spelling() {
        check("/patients", Some(("/patients", Resource::Patients)));
        check("/health", Some(("/health", Resource::Health)));
        check("/openapi.json", Some(("/openapi.json", Resource::Document)));
        check("/", Some(("/", Resource::Page)));
        check("/patients/p-001", patient("p-001"));
        let checkins = Resource::Checkins("p-001".to_owned());
        check(
            "/patients/p-001/checkins",
            Some(("/patients/{id}/checkins", checkins)),
        );
        for path in [
            "",
            "//",
            "patients",
            "/patients/",
            "//patients",
            "/Patients",
            "/patients//checkins",
            "/patients/p-001/",
            "/patients/p-001/checkins/",
            "/patients/p-001/checkins/7",
            "/patients/p-001/check-ins",
            "/health/",
            "/openapi",
            "/assets/",
            "/assets/other/app.js",
            "/prod/patients",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn segments_are_decoded_after_they_are_split() {
        check("/%70atients/p%2D001", patient("p-001"));
        check("/patients/a%2Fb", patient("a/b"));
        check("/patients/%", patient("%"));
        check("/patients/%C3%A9", patient("é"));
        check("/patients/é", patient("é"));
        check("/patients/%FF", None);
        check("/patients%2Fp-001", None);
    }
}
