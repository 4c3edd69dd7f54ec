//! How answers look: `{"success":true,"data":…}`, bare reports, and OpenAI's error envelope. Nothing may be cached, because
//! one answer shows a key.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::envelope;
use crate::error::{Error, ErrorKind};

/// 200 with `{"success":true,"data":…}`.
pub(super) struct Data<T>(pub(super) T);

/// 201 with `{"success":true,"data":…}`.
pub(super) struct Created<T>(pub(super) T);

/// 200 with the object itself.
pub(super) struct Bare<T>(pub(super) T);

/// An error on its way to the client.
pub(super) struct Failure(pub(super) Error);

/// What every handler answers.
pub(super) type Answer<T> = Result<T, Failure>;

#[derive(Serialize)]
struct Success<T> {
    success: bool,
    data: T,
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        answer(StatusCode::OK, Success { success: true, data: self.0 })
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        answer(StatusCode::CREATED, Success { success: true, data: self.0 })
    }
}

impl<T: Serialize> IntoResponse for Bare<T> {
    fn into_response(self) -> Response {
        answer(StatusCode::OK, self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(error) = self;
        if error.kind() == ErrorKind::Internal {
            tracing::error!(?error, "an admin request failed");
        }
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = HeaderValue::from_static("application/json");
        let mut response = (status, [(CONTENT_TYPE, json)], envelope::json(&error)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = error.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil() as u64));
        }
        response
    }
}

fn answer<T: Serialize>(status: StatusCode, body: T) -> Response {
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
}

/// What every answer says to a browser: it is what its content type says, in no frame, and no address of it goes elsewhere.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

/// What a DELETE answers.
pub(super) fn deleted(id: &str) -> Data<Value> {
    Data(json!({"id": id, "deleted": true}))
}

/// The error for a path that leads nowhere.
pub(super) fn no_route() -> Error {
    Error::new(ErrorKind::NotFound, "No such route.")
}

pub(super) async fn not_found() -> Failure {
    Failure(no_route())
}

/// The router adds `Allow`.
pub(super) async fn method_not_allowed() -> Failure {
    Failure(Error::new(ErrorKind::MethodNotAllowed, "This route does not have that method; see 'Allow'."))
}
