//! Query parameters, read strictly: a mistyped filter gives an error, not unfiltered data.

use std::collections::BTreeMap;

use aws_lambda_events::apigw::ApiGatewayProxyRequest;
use domain::{StreamVersion, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use read_model::PageLimit;

use crate::problem::Problem;

/// The parameters of a request, decoded, each with all its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameters(BTreeMap<String, Vec<String>>);

/// Parameters of `GET /patients`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatientsParameters {
    pub(crate) limit: PageLimit,
    pub(crate) sort: Sort,
    pub(crate) cursor: Option<String>,
}

/// Parameters of `GET /patients/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatientParameters {
    pub(crate) min_version: StreamVersion,
}

/// Parameters of `GET /patients/{id}/checkins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckinsParameters {
    pub(crate) limit: PageLimit,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) ascending: bool,
    pub(crate) min_version: StreamVersion,
    pub(crate) cursor: Option<String>,
}

/// The order of patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Id,
    Recent,
}

const LIMIT: &str = "limit";
const CURSOR: &str = "cursor";
const SORT: &str = "sort";
const FROM: &str = "from";
const TO: &str = "to";
const ORDER: &str = "order";
pub(crate) const MIN_VERSION: &str = "minVersion";

/// The largest whole number that every JSON parser reads exactly (RFC 8259, section 6). No stream gets there.
const MAX_VERSION: u64 = (1 << 53) - 1;
/// All but what needs no escape anywhere in a URL (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Parameters {
    /// Those of this request.
    pub(crate) fn of(request: &ApiGatewayProxyRequest) -> Parameters {
        // The single-valued map has only the last of several values, but is all that some senders fill in.
        let given = if request.multi_value_query_string_parameters.is_empty() {
            &request.query_string_parameters
        } else {
            &request.multi_value_query_string_parameters
        };
        // The map's own iterator panics at a name without values, so go by way of what it is serialised to.
        let values = serde_json::to_value(given).and_then(serde_json::from_value);
        Parameters(values.unwrap_or_default())
    }

    /// Reads those of `GET /patients`.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`]
    pub(crate) fn patients(&self) -> Result<PatientsParameters, Problem> {
        self.only(&[LIMIT, CURSOR, SORT])?;
        Ok(PatientsParameters {
            limit: self.limit()?,
            sort: self.one_of(SORT, "must be id or recent", Sort::Id, |word| match word {
                "id" => Some(Sort::Id),
                "recent" => Some(Sort::Recent),
                _ => None,
            })?,
            cursor: self.one(CURSOR)?.map(str::to_owned),
        })
    }

    /// Reads those of `GET /patients/{id}`.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`]
    pub(crate) fn patient(&self) -> Result<PatientParameters, Problem> {
        self.only(&[MIN_VERSION])?;
        Ok(PatientParameters {
            min_version: self.min_version()?,
        })
    }

    /// Reads those of `GET /patients/{id}/checkins`.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`]
    pub(crate) fn checkins(&self) -> Result<CheckinsParameters, Problem> {
        self.only(&[LIMIT, CURSOR, FROM, TO, ORDER, MIN_VERSION])?;
        let (from, to) = (self.timestamp(FROM)?, self.timestamp(TO)?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(Problem::invalid(FROM, "must not be after the parameter to"));
        }
        Ok(CheckinsParameters {
            limit: self.limit()?,
            from,
            to,
            ascending: self.one_of(ORDER, "must be asc or desc", false, |word| match word {
                "asc" => Some(true),
                "desc" => Some(false),
                _ => None,
            })?,
            min_version: self.min_version()?,
            cursor: self.one(CURSOR)?.map(str::to_owned),
        })
    }

    /// The same query with this cursor, as a relative reference: it holds wherever the API is.
    pub(crate) fn with_cursor(&self, cursor: &str) -> String {
        let given = self.0.iter().filter(|(name, _)| name.as_str() != CURSOR);
        let given =
            given.flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())));
        let parameters: Vec<String> = given
            .chain([(CURSOR, cursor)])
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED)))
            .collect();
        format!("?{}", parameters.join("&"))
    }

    /// Reads none.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`]
    pub(crate) fn none(&self) -> Result<(), Problem> {
        self.only(&[])
    }

    /// What stands in the place of a name is not repeated: it can be misplaced data.
    fn only(&self, known: &'static [&'static str]) -> Result<(), Problem> {
        if self.0.keys().all(|name| known.contains(&name.as_str())) {
            Ok(())
        } else {
            Err(Problem::UnknownParameter { known })
        }
    }

    fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        match self.0.get(name).map_or(&[][..], Vec::as_slice) {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(Problem::invalid(name, "is given more than once")),
        }
    }

    fn one_of<T>(
        &self,
        name: &'static str,
        rule: &'static str,
        default: T,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Problem> {
        match self.one(name)? {
            None => Ok(default),
            Some(value) => read(value).ok_or_else(|| Problem::invalid(name, rule)),
        }
    }

    fn limit(&self) -> Result<PageLimit, Problem> {
        self.one_of(
            LIMIT,
            "must be a whole number from 1 to 100",
            PageLimit::default(),
            |value| PageLimit::new(digits(value)?.try_into().ok()?),
        )
    }

    fn min_version(&self) -> Result<StreamVersion, Problem> {
        self.one_of(
            MIN_VERSION,
            "must be a whole number from 0 to 9007199254740991",
            StreamVersion::EMPTY,
            |value| {
                digits(value)
                    .filter(|version| *version <= MAX_VERSION)
                    .map(StreamVersion::new)
            },
        )
    }

    /// Finer than a millisecond is cut, as it is in the times that these are compared with.
    fn timestamp(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        const RULE: &str = "must be an RFC 3339 time, in UTC of the years 0000 to 9999, such as 2026-11-24T09:30:00Z (in a URL, + is \
             written %2B)";
        self.one_of(name, RULE, None, |value| {
            Timestamp::parse_rfc3339(value).ok().map(Some)
        })
    }
}

/// Digits only: `FromStr` would take a plus sign.
fn digits(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn parameters(query: serde_json::Value) -> Parameters {
        let event = json!({
            "httpMethod": "GET",
            "requestContext": { "httpMethod": "GET" },
            "multiValueQueryStringParameters": query,
        });
        Parameters::of(&serde_json::from_value(event).unwrap())
    }

    /// Expects a problem that names `parameter`.
    #[track_caller]
    fn check<T: std::fmt::Debug>(found: &Result<T, Problem>, parameter: &str) {
        let Err(Problem::InvalidParameter { parameter: named, .. }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(*named, parameter);
    }

    /// Expects a problem that names those that are known.
    #[track_caller]
    fn check_unknown<T: std::fmt::Debug>(found: &Result<T, Problem>, expected: &[&str]) {
        let Err(Problem::UnknownParameter { known }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(known, &expected);
    }

    #[test]
    fn nothing_given_gives_the_defaults() {
        for query in [json!(null), json!({}), json!({ "limit": [] })] {
            let found = parameters(query).checkins().unwrap();
            let expected = CheckinsParameters {
                limit: PageLimit::new(50).unwrap(),
                from: None,
                to: None,
                ascending: false,
                min_version: StreamVersion::EMPTY,
                cursor: None,
            };
            assert_eq!(found, expected);
        }
        assert_eq!(parameters(json!({})).patients().unwrap().sort, Sort::Id);
    }

    #[test]
    fn what_is_given_is_read() {
        let found = parameters(json!({
            "limit": ["100"], "cursor": ["abc"], "order": ["asc"], "minVersion": ["9007199254740991"],
            "from": ["2026-11-24T10:30:00.1239+01:00"], "to": ["2026-11-24T09:30:00.123Z"],
        }))
        .checkins()
        .unwrap();
        let at: Timestamp = "2026-11-24T09:30:00.123Z".parse().unwrap();
        let expected = CheckinsParameters {
            limit: PageLimit::MAX,
            from: Some(at),
            to: Some(at),
            ascending: true,
            min_version: StreamVersion::new(MAX_VERSION),
            cursor: Some("abc".to_owned()),
        };
        assert_eq!(found, expected);
        let found = parameters(json!({ "limit": ["1"], "sort": ["recent"] }))
            .patients()
            .unwrap();
        assert_eq!((found.limit.get(), found.sort), (1, Sort::Recent));
    }

    #[test]
    fn the_single_valued_map_is_taken_if_it_is_all_there_is() {
        let event = json!({
            "httpMethod": "GET",
            "requestContext": { "httpMethod": "GET" },
            "queryStringParameters": { "minVersion": "7" },
            "multiValueQueryStringParameters": null,
        });
        let found = Parameters::of(&serde_json::from_value(event).unwrap());
        assert_eq!(found.patient().unwrap().min_version, StreamVersion::new(7));
    }

    #[test]
    fn the_next_page_has_the_same_query_and_another_cursor() {
        let given = json!({ "cursor": ["old"], "from": ["2026-11-24T10:30:00+01:00"], "limit": ["7"] });
        assert_eq!(
            parameters(given).with_cursor("new_-"),
            "?from=2026-11-24T10%3A30%3A00%2B01%3A00&limit=7&cursor=new_-"
        );
        assert_eq!(parameters(json!(null)).with_cursor("new"), "?cursor=new");
    }

    #[test]
    fn a_malformed_value_is_refused_and_named() {
        for (name, values) in [
            (
                "limit",
                &[
                    "",
                    "0",
                    "101",
                    "-1",
                    "+5",
                    "x",
                    "5.0",
                    " 5",
                    "٥",
                    "99999999999999999999",
                ][..],
            ),
            ("order", &["", "ASC", "up"]),
            (
                "minVersion",
                &["", "-1", "x", "9007199254740992", "18446744073709551616"],
            ),
            (
                "from",
                &[
                    "",
                    "yesterday",
                    "2026-11-24",
                    "2026-11-24T09:30:00 01:00",
                    "2026-13-01T00:00:00Z",
                    "99999-01-01T00:00:00Z",
                    // In UTC that is before the year 0000.
                    "0000-01-01T00:00:00+23:59",
                ],
            ),
            ("to", &["", "0"]),
        ] {
            for value in values {
                let found = parameters(json!({ (name): [value] })).checkins();
                check(&found, name);
            }
        }
        let found = parameters(json!({ "sort": ["name"] })).patients();
        check(&found, "sort");
    }

    #[test]
    fn a_repeated_parameter_is_refused_even_with_the_same_value() {
        for name in ["limit", "cursor", "from", "to", "order", "minVersion"] {
            let found = parameters(json!({ (name): ["1", "1"] })).checkins();
            check(&found, name);
        }
    }

    #[test]
    fn a_parameter_that_is_not_known_here_is_refused() {
        let given = |name: &str| parameters(json!({ (name): ["1"] }));
        for name in ["form", "Limit", "Ada Lovelace", "Lovelace", "", "sort "] {
            let of_checkins = ["limit", "cursor", "from", "to", "order", "minVersion"];
            check_unknown(&given(name).checkins(), &of_checkins);
            check_unknown(&given(name).patients(), &["limit", "cursor", "sort"]);
            check_unknown(&given(name).patient(), &["minVersion"]);
            check_unknown(&given(name).none(), &[]);
        }
        // Known elsewhere.
        check_unknown(&given("from").patients(), &["limit", "cursor", "sort"]);
        check_unknown(&given("limit").patient(), &["minVersion"]);
        check_unknown(&given("limit").none(), &[]);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_refused() {
        let found = parameters(json!({
            "from": ["2026-11-24T09:30:00.001Z"], "to": ["2026-11-24T09:30:00Z"],
        }));
        check(&found.checkins(), "from");
    }
}
