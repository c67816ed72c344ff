//! Which resource a path names.

use percent_encoding::percent_decode_str;

use crate::page::{self, Asset};

/// A resource, by the path that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/patients`
    Patients,
    /// `/patients/{id}`; what stands in the place of the id need not be one.
    Patient(String),
    /// `/patients/{id}/checkins`, likewise.
    Checkins(String),
    /// `/health`
    Health,
    /// `/`
    Page,
    /// `/assets/{version}/{name}`
    Asset(&'static Asset),
}

impl Route {
    /// The resource at this path, which is percent-encoded and without the stage, as API Gateway's `path` is. Only
    /// one spelling names a resource: no empty segments, and so no slash at the end. (But each segment may be
    /// percent-encoded, which RFC 3986 makes the same spelling.)
    pub(crate) fn of(path: &str) -> Option<Route> {
        let segments = path
            .strip_prefix('/')?
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8().ok())
            .collect::<Option<Vec<_>>>()?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match *segments.as_slice() {
            ["patients"] => Some(Route::Patients),
            ["patients", id] if !id.is_empty() => Some(Route::Patient(id.to_owned())),
            ["patients", id, "checkins"] if !id.is_empty() => Some(Route::Checkins(id.to_owned())),
            ["health"] => Some(Route::Health),
            [""] => Some(Route::Page),
            ["assets", version, name] => page::asset(version, name).map(Route::Asset),
            _ => None,
        }
    }

    /// The path as a pattern: what may be logged, where the path itself names a patient.
    pub(crate) const fn pattern(&self) -> &'static str {
        match self {
            Route::Patients => "/patients",
            Route::Patient(_) => "/patients/{id}",
            Route::Checkins(_) => "/patients/{id}/checkins",
            Route::Health => "/health",
            Route::Page => "/",
            Route::Asset(_) => "/assets/{version}/{name}",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&Route>) {
        assert_eq!(Route::of(path).as_ref(), expected, "{path}");
    }

    #[test]
    fn a_path_names_a_resource_in_one_spelling() {
        check("/patients", Some(&Route::Patients));
        check("/health", Some(&Route::Health));
        check("/", Some(&Route::Page));
        check("/patients/p-001", Some(&Route::Patient("p-001".to_owned())));
        check(
            "/patients/p-001/checkins",
            Some(&Route::Checkins("p-001".to_owned())),
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
            "/prod/patients",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn segments_are_decoded_after_they_are_split() {
        check("/%70atients/p%2D001", Some(&Route::Patient("p-001".to_owned())));
        check("/patients/a%2Fb", Some(&Route::Patient("a/b".to_owned())));
        check("/patients/%", Some(&Route::Patient("%".to_owned())));
        check("/patients/%C3%A9", Some(&Route::Patient("é".to_owned())));
        check("/patients/é", Some(&Route::Patient("é".to_owned())));
        check("/patients/%FF", None);
        check("/patients%2Fp-001", None);
    }
}
