//! From a request to its answer.
//!
//! The control item is read once for a request, and everything in the answer is from the generation that it names.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use domain::{PatientId, StreamVersion};
use http::Method;
use read_model::{CheckinsQuery, CursorKey, Queries, ReadModelStore, RowRange};
use runtime::telemetry::chain;
use serde::de::DeserializeOwned;

use crate::cursor::{BoundQuery, PinnedRow};
use crate::page::{self, File};
use crate::parameters::{
    CheckinsParameters, MIN_VERSION, Parameters, PatientParameters, PatientsParameters, Sort,
};
use crate::problem::Problem;
use crate::representation::{CheckinList, Health, PatientList, PatientResource, json};
use crate::response;
use crate::route::Route;

/// Answers requests from a read model.
#[derive(Debug)]
pub struct Backend<S> {
    store: S,
}

impl<S: ReadModelStore> Backend<S> {
    /// Answers from this read model.
    #[must_use]
    pub const fn new(store: S) -> Backend<S> {
        Backend { store }
    }

    /// Answers one request, whatever it is: an answer that can't be given is a problem in the response, not an
    /// error of the invocation, which API Gateway would turn into a bare 502.
    pub async fn handle(&self, request: &ApiGatewayProxyRequest) -> ApiGatewayProxyResponse {
        let route = request.path.as_deref().and_then(Route::of);
        let answer = self.answer(route.as_ref(), request).await;
        let problem = answer.as_ref().err();
        let response = match &answer {
            Ok(file) => response::representation(file, request),
            Err(problem) => response::problem(problem),
        };
        let method = request.http_method.as_str();
        let route = route.as_ref().map_or("none", Route::pattern);
        let status = response.status_code;
        let request_id = request.request_context.request_id.as_deref();
        if let Some(Problem::Unavailable(error)) = problem {
            let error = chain(error);
            tracing::error!(method, route, status, request_id, error, "answered");
        } else {
            let problem = problem.map(Problem::code);
            tracing::info!(method, route, status, request_id, problem, "answered");
        }
        response
    }

    async fn answer(&self, route: Option<&Route>, request: &ApiGatewayProxyRequest) -> Result<File, Problem> {
        let route = route.ok_or(Problem::UnknownRoute)?;
        if request.http_method != Method::GET {
            return Err(Problem::MethodNotAllowed);
        }
        let parameters = Parameters::of(request);
        let body = match route {
            Route::Page => return Ok(page::page_file(request)),
            Route::Asset(asset) => return Ok(page::asset_file(asset)),
            Route::Patients => self.patients(parameters.patients()?).await?,
            Route::Patient(id) => self.patient(&known_form(id)?, parameters.patient()?).await?,
            Route::Checkins(id) => self.checkins(&known_form(id)?, parameters.checkins()?).await?,
            Route::Health => {
                parameters.none()?;
                self.health().await?
            }
        };
        Ok(File::json(body))
    }

    async fn patients(&self, asked: PatientsParameters) -> Result<String, Problem> {
        let cursor = asked.cursor.as_deref();
        let Some(control) = self.store.control().await? else {
            // Nothing was projected so far, so no cursor was given out.
            return match cursor {
                Some(_) => Err(Problem::InvalidCursor),
                None => Ok(json(&PatientList::default())),
            };
        };
        let key = &control.cursor_key;
        let queries = Queries::new(&self.store, control.active);
        let (patients, next_cursor) = match asked.sort {
            Sort::Id => {
                let query = BoundQuery::PatientsById;
                let after = place(query, key, cursor)?;
                let listing = queries.patients_by_id(after.as_ref(), asked.limit).await?;
                let next = listing.next.map(|place| query.cursor(key, &place));
                (listing.items, next)
            }
            Sort::Recent => {
                let query = BoundQuery::PatientsByRecent;
                let after = place(query, key, cursor)?;
                let listing = queries.patients_by_recent(after.as_ref(), asked.limit).await?;
                let next = listing.next.map(|place| query.cursor(key, &place));
                (listing.items, next)
            }
        };
        Ok(json(&PatientList {
            patients: patients.into_iter().map(Into::into).collect(),
            next_cursor,
        }))
    }

    async fn patient(&self, id: &PatientId, asked: PatientParameters) -> Result<String, Problem> {
        let Some(control) = self.store.control().await? else {
            return Err(nobody_yet(asked.min_version));
        };
        let queries = Queries::new(&self.store, control.active);
        let summary = queries.patient(id, asked.min_version).await?;
        Ok(json(&PatientResource::from(summary)))
    }

    async fn checkins(&self, id: &PatientId, asked: CheckinsParameters) -> Result<String, Problem> {
        let cursor = asked.cursor.as_deref();
        let Some(control) = self.store.control().await? else {
            return Err(match cursor {
                Some(_) => Problem::InvalidCursor,
                None => nobody_yet(asked.min_version),
            });
        };
        let key = &control.cursor_key;
        let query = BoundQuery::Checkins {
            patient: id,
            from: asked.from,
            to: asked.to,
            ascending: asked.ascending,
        };
        let place: Option<PinnedRow> = place(query, key, cursor)?;
        let pinned = place.map(|place| place.version);
        if pinned.is_some_and(|pinned| pinned < asked.min_version) {
            return Err(Problem::invalid(
                MIN_VERSION,
                "is above the version that the cursor belongs to",
            ));
        }
        let listing = Queries::new(&self.store, control.active)
            .checkins(
                id,
                CheckinsQuery {
                    pinned,
                    at_least: asked.min_version,
                    range: RowRange {
                        from: asked.from,
                        to: asked.to,
                        after: place.map(|place| place.after),
                        ascending: asked.ascending,
                    },
                    limit: asked.limit,
                },
            )
            .await?;
        let next = listing.page.next.map(|after| PinnedRow {
            version: listing.version,
            after,
        });
        Ok(json(&CheckinList {
            patient_id: id,
            quarantined_since: listing.quarantined_since,
            checkins: listing.page.items.into_iter().map(Into::into).collect(),
            next_cursor: next.map(|place| query.cursor(key, &place)),
        }))
    }

    async fn health(&self) -> Result<String, Problem> {
        let Some(control) = self.store.control().await? else {
            return Ok(json(&Health::new(None, None)));
        };
        let progress = self.store.progress(control.active).await?;
        Ok(json(&Health::new(Some(control.active), progress.as_ref())))
    }
}

/// What is not of the form of an id is the id of nobody: 404, as for any other.
fn known_form(id: &str) -> Result<PatientId, Problem> {
    id.parse().map_err(|_| Problem::UnknownPatient)
}

/// What there is to say of any patient before anything was projected.
fn nobody_yet(min_version: StreamVersion) -> Problem {
    if min_version > StreamVersion::EMPTY {
        Problem::NotAppliedYet
    } else {
        Problem::UnknownPatient
    }
}

fn place<P: DeserializeOwned>(
    query: BoundQuery<'_>,
    key: &CursorKey,
    cursor: Option<&str>,
) -> Result<Option<P>, Problem> {
    let place = cursor.map(|cursor| query.place(key, cursor)).transpose()?;
    Ok(place)
}
