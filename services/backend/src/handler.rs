//! From a request to its answer.
//!
//! The control item is read once for a request, and everything in the answer is from the generation that it names.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use domain::{PatientId, StreamVersion, Timestamp};
use http::Method;
use read_model::{CheckinsQuery, CursorKey, Queries, ReadModelStore, RowRange};
use runtime::clock::Clock;
use runtime::telemetry::chain;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::correlation::CorrelationId;
use crate::cors::AllowOrigin;
use crate::cursor::{BoundQuery, PinnedRow};
use crate::page;
use crate::parameters::{MIN_VERSION, Parameters, Sort};
use crate::problem::Problem;
use crate::representation::{CheckinList, Health, PatientList, PatientResource, Projected};
use crate::response::{self, Representation};
use crate::route::{Resource, Route};

/// The contract that this service keeps.
const DOCUMENT: &str = include_str!("../openapi.json");

/// Answers requests from a read model.
#[derive(Debug)]
pub struct Backend<S> {
    store: S,
    clock: Clock,
    allow_origin: Option<AllowOrigin>,
}

/// What is answered when nothing is wrong.
enum Answer {
    Representation(Representation),
    Methods,
}

impl<S: ReadModelStore> Backend<S> {
    /// Answers from this read model; pages of `allow_origin` may read the answers.
    #[must_use]
    pub const fn new(store: S, clock: Clock, allow_origin: Option<AllowOrigin>) -> Backend<S> {
        Backend {
            store,
            clock,
            allow_origin,
        }
    }

    /// Answers one request, whatever it is: an answer that can't be given is a problem in the response, not an
    /// error of the invocation, which API Gateway would turn into a bare 502.
    pub async fn handle(&self, request: &ApiGatewayProxyRequest) -> ApiGatewayProxyResponse {
        let correlation_id = CorrelationId::of(request);
        // At the highest level, so that whatever is logged meanwhile has the id.
        let span = tracing::error_span!(
            "request",
            correlation_id = correlation_id.as_ref().map(CorrelationId::as_str)
        );
        let mut response = self.respond(request).instrument(span).await;
        let allow_origin = self.allow_origin.as_ref();
        response::complete(
            &mut response,
            &request.http_method,
            correlation_id.as_ref(),
            allow_origin,
        );
        response
    }

    async fn respond(&self, request: &ApiGatewayProxyRequest) -> ApiGatewayProxyResponse {
        let route = request.path.as_deref().and_then(Route::of);
        let pattern = route.as_ref().map_or("none", |route| route.pattern);
        let answer = self.answer(route, request).await;
        let (response, problem) = match answer {
            Ok(Answer::Representation(found)) => (response::representation(found, request), None),
            Ok(Answer::Methods) => (response::methods(self.allow_origin.as_ref()), None),
            Err(problem) => (response::problem(&problem), Some(problem)),
        };
        let (method, status) = (known_method(&request.http_method), response.status_code);
        let request_id = request.request_context.request_id.as_deref();
        if let Some(Problem::Unavailable(error)) = &problem {
            let error = chain(error);
            tracing::error!(method, route = pattern, status, request_id, error, "answered");
        } else {
            let problem = problem.as_ref().map(Problem::code);
            tracing::info!(method, route = pattern, status, request_id, problem, "answered");
        }
        response
    }

    async fn answer(
        &self,
        route: Option<Route>,
        request: &ApiGatewayProxyRequest,
    ) -> Result<Answer, Problem> {
        let Route { resource, .. } = route.ok_or(Problem::UnknownRoute)?;
        let method = &request.http_method;
        if *method == Method::OPTIONS {
            Ok(Answer::Methods)
        } else if *method == Method::GET || *method == Method::HEAD {
            // Boxed, or the compiler gives up on how deep futures are nested in each other.
            let represented = Box::pin(self.represent(&resource, request)).await;
            represented.map(Answer::Representation)
        } else {
            Err(Problem::MethodNotAllowed)
        }
    }

    async fn represent(
        &self,
        resource: &Resource,
        request: &ApiGatewayProxyRequest,
    ) -> Result<Representation, Problem> {
        let parameters = &Parameters::of(request);
        match resource {
            Resource::Patients => self.patients(parameters).await,
            Resource::Patient(id) => self.patient(&known_form(id)?, parameters).await,
            Resource::Checkins(id) => self.checkins(&known_form(id)?, parameters).await,
            Resource::Health => self.health(parameters).await,
            Resource::Document => {
                parameters.none()?;
                Ok(Representation::revalidated("application/json", DOCUMENT))
            }
            // Its query is no filter of data, and others hang something on to every address that they pass on.
            Resource::Page => Ok(page::page(request)),
            Resource::Asset(asset) => Ok(asset.representation()),
        }
    }

    async fn patients(&self, parameters: &Parameters) -> Result<Representation, Problem> {
        let asked = parameters.patients()?;
        let cursor = asked.cursor.as_deref();
        let Some(control) = self.store.control().await? else {
            // Nothing was projected so far, so no cursor was given out.
            return match cursor {
                Some(_) => Err(Problem::InvalidCursor),
                None => Ok(Representation::not_kept(&PatientList::default())),
            };
        };
        let key = &control.cursor_key;
        let queries = Queries::new(&self.store, control.active);
        let listed = async {
            Ok(match asked.sort {
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
            })
        };
        let ((patients, next_cursor), stale_since) = tokio::try_join!(listed, self.stale_since(&queries))?;
        let list = PatientList {
            patients: patients
                .into_iter()
                .map(|patient| PatientResource::new(patient, stale_since))
                .collect(),
            next_cursor,
        };
        Ok(page_of(&list, parameters, list.next_cursor.as_deref()))
    }

    async fn patient(&self, id: &PatientId, parameters: &Parameters) -> Result<Representation, Problem> {
        let asked = parameters.patient()?;
        let Some(control) = self.store.control().await? else {
            return Err(nobody_yet(asked.min_version));
        };
        let queries = Queries::new(&self.store, control.active);
        let found = async { Ok(queries.patient(id, asked.min_version).await?) };
        let (summary, stale_since) = tokio::try_join!(found, self.stale_since(&queries))?;
        Ok(Representation::not_kept(&PatientResource::new(
            summary,
            stale_since,
        )))
    }

    async fn checkins(&self, id: &PatientId, parameters: &Parameters) -> Result<Representation, Problem> {
        let asked = parameters.checkins()?;
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
        let wanted = CheckinsQuery {
            pinned,
            at_least: asked.min_version,
            range: RowRange {
                from: asked.from,
                to: asked.to,
                after: place.map(|place| place.after),
                ascending: asked.ascending,
            },
            limit: asked.limit,
        };
        let queries = Queries::new(&self.store, control.active);
        let listed = async { Ok(queries.checkins(id, wanted).await?) };
        let (listing, stale_since) = tokio::try_join!(listed, self.stale_since(&queries))?;
        let next = listing.page.next.map(|after| PinnedRow {
            version: listing.version,
            after,
        });
        let list = CheckinList {
            patient_id: id,
            quarantined_since: listing.quarantined_since,
            stale_since,
            checkins: listing.page.items.into_iter().map(Into::into).collect(),
            next_cursor: next.map(|place| query.cursor(key, &place)),
        };
        Ok(page_of(&list, parameters, list.next_cursor.as_deref()))
    }

    /// Since when the generation is known to be behind, if it is.
    async fn stale_since(&self, queries: &Queries<'_, S>) -> Result<Option<Timestamp>, Problem> {
        let stall = queries.freshness().await?.stall((self.clock)());
        Ok(stall.map(|stall| stall.since))
    }

    async fn health(&self, parameters: &Parameters) -> Result<Representation, Problem> {
        parameters.none()?;
        let projected = self.projected().await?;
        Ok(Representation::not_kept(&Health::new(projected)))
    }

    /// How far the read model has come.
    async fn projected(&self) -> Result<Projected, Problem> {
        let Some(control) = self.store.control().await? else {
            return Ok(Projected::default());
        };
        let freshness = Queries::new(&self.store, control.active).freshness().await?;
        let projected = Projected::new(control.active, &freshness);
        match freshness.stall((self.clock)()) {
            None => Ok(projected),
            Some(stall) => Err(Problem::Stalled { stall, projected }),
        }
    }
}

/// A page of a list, with a link to the next one.
fn page_of(
    list: &impl serde::Serialize,
    parameters: &Parameters,
    next_cursor: Option<&str>,
) -> Representation {
    Representation {
        next: next_cursor.map(|cursor| parameters.with_cursor(cursor)),
        ..Representation::not_kept(list)
    }
}

/// What may be logged of a method. HTTP lets any word be one, a name too.
fn known_method(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "OPTIONS" | "POST" | "PUT" | "PATCH" | "DELETE" | "TRACE") => known,
        _ => "other",
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
