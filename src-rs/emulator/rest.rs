//! The two HTTP endpoints: tokens, and tables as Unity Catalog describes them; and the answer to whatever
//! asks for something else.
//!
//! Invariant: a gRPC call that nothing serves is answered by a gRPC status. Clients take a bare HTTP 404 for a
//! failure of the moment and try again for as long as their patience lasts.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Path, RawForm, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tonic::Status;

use super::event::EmulatorEvent;
use super::table::EmulatedTable;
use super::tokens::TokenGrant;
use super::{EmulatorState, TableName};

pub fn router(shared: Arc<EmulatorState>) -> Router {
    let mut router = Router::new();
    // The second: of a catalog's URL that ends in a slash, behind which clients put the path.
    for root in ["", "/"] {
        router = router.route(&format!("{root}/oidc/v1/token"), post(token)).route(
            &format!("{root}/api/2.1/unity-catalog/tables/{{name}}"),
            get(table),
        );
    }
    router
        .fallback(unserved)
        .method_not_allowed_fallback(unserved)
        .with_state(shared)
}

/// What nothing here answers to.
async fn unserved(
    State(shared): State<Arc<EmulatorState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let is_grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let path = uri.path();
    let reason = match is_grpc {
        true => format!(
            "the emulator does not serve {path}: it takes Arrow streams \
             (arrow.flight.protocol.FlightService/DoPut), and no streams of single records"
        ),
        false => format!(
            "{method} {path} is not served here: tokens are at POST /oidc/v1/token, tables at \
             GET /api/2.1/unity-catalog/tables/<catalog>.<schema>.<table>"
        ),
    };
    shared.observer.tell(EmulatorEvent::RequestRefused {
        path: path.into(),
        reason: reason.clone(),
    });
    match is_grpc {
        true => Status::unimplemented(reason).into_http(),
        false => {
            let body = json!({ "error_code": "ENDPOINT_NOT_FOUND", "message": reason });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    }
}

/// Why no token is given, in OAuth's words.
struct Refusal {
    status: u16,
    error: &'static str,
    reason: String,
}

impl Refusal {
    fn client(reason: impl Into<String>) -> Refusal {
        Refusal {
            status: 401,
            error: "invalid_client",
            reason: reason.into(),
        }
    }

    fn request(error: &'static str, reason: impl Into<String>) -> Refusal {
        Refusal {
            status: 400,
            error,
            reason: reason.into(),
        }
    }
}

async fn token(
    State(shared): State<Arc<EmulatorState>>,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    match issue(&shared, &headers, &form) {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) => {
            shared.observer.tell(EmulatorEvent::TokenRefused {
                status: refusal.status,
                reason: refusal.reason.clone(),
            });
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = json!({ "error": refusal.error, "error_description": refusal.reason });
            (status, Json(body)).into_response()
        }
    }
}

fn issue(
    shared: &EmulatorState,
    headers: &HeaderMap,
    form: &HashMap<String, String>,
) -> Result<Value, Refusal> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let client = match field("grant_type") {
        "client_credentials" => client(shared, headers)?,
        "urn:ietf:params:oauth:grant-type:token-exchange" => {
            if field("subject_token").is_empty() || field("subject_token_type").is_empty() {
                let text = "subject_token and subject_token_type are needed";
                return Err(Refusal::request("invalid_request", text));
            }
            field("client_id").to_string()
        }
        other => {
            let text = format!("grant_type is {other:?}, not client_credentials");
            return Err(Refusal::request("unsupported_grant_type", text));
        }
    };
    if field("scope") != "all-apis" {
        let text = format!("scope is {:?}, not all-apis", field("scope"));
        return Err(Refusal::request("invalid_scope", text));
    }
    let scope = scope(form)?;
    let table = match &scope {
        TokenGrant::Table(table) => Some(table.full().to_string()),
        _ => None,
    };
    if let Some(status) = shared.faults.at_token(table.as_deref().unwrap_or_default()) {
        shared.totals.fault_fired();
        return Err(Refusal {
            status,
            error: if status < 500 {
                "invalid_client"
            } else {
                "temporarily_unavailable"
            },
            reason: "a fault of the emulator".into(),
        });
    }
    let token = shared.tokens.issue(scope);
    let lifetime = shared.tokens.lifetime();
    shared.totals.tokens_issued();
    shared.observer.tell(EmulatorEvent::TokenIssued {
        client_id: client,
        table,
        lifetime,
    });
    Ok(json!({
        "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(), "scope": "all-apis",
    }))
}

/// Who asks, by HTTP Basic.
fn client(shared: &EmulatorState, headers: &HeaderMap) -> Result<String, Refusal> {
    let text = authorization(headers).ok_or_else(|| Refusal::client("HTTP Basic is missing"))?;
    let decoded = text
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| BASE64_STANDARD.decode(encoded.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((id, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
        return Err(Refusal::client("the authorization header is no HTTP Basic"));
    };
    let known_id = shared.config.client_id.as_ref().is_none_or(|known| known == id);
    let known_secret = shared
        .config
        .client_secret
        .as_ref()
        .is_none_or(|known| known.reveal() == secret);
    if id.is_empty() || secret.is_empty() || !known_id || !known_secret {
        return Err(Refusal::client("the client id or its secret is wrong"));
    }
    Ok(id.to_string())
}

/// What the token is asked for: with `resource` and `authorization_details` a table, without them the
/// table API alone.
fn scope(form: &HashMap<String, String>) -> Result<TokenGrant, Refusal> {
    let (resource, details) = match (form.get("resource"), form.get("authorization_details")) {
        (None, None) => return Ok(TokenGrant::Catalog),
        (Some(resource), Some(details)) => (resource, details),
        _ => {
            let text = "resource and authorization_details go together";
            return Err(Refusal::request("invalid_request", text));
        }
    };
    let workspace = resource
        .strip_prefix("api://databricks/workspaces/")
        .and_then(|rest| rest.strip_suffix("/zerobusDirectWriteApi"));
    if workspace.is_none_or(str::is_empty) {
        let text = format!(
            "resource is {resource:?}, not api://databricks/workspaces/<workspace>/zerobusDirectWriteApi"
        );
        return Err(Refusal::request("invalid_target", text));
    }
    let bad = |text: String| Refusal::request("invalid_authorization_details", text);
    let details: Value = serde_json::from_str(details).map_err(|error| bad(format!("no JSON: {error}")))?;
    let entry = |kind: &str| {
        let mut entries = details.as_array().into_iter().flatten();
        entries.find(|entry| entry["type"] == "unity_catalog_privileges" && entry["object_type"] == kind)
    };
    let holds = |list: &Value, word: &str| {
        let words = list.as_array().into_iter().flatten();
        words.filter_map(Value::as_str).any(|found| found == word)
    };
    let asked = entry("TABLE").ok_or_else(|| bad("there is no entry for a TABLE".into()))?;
    let name = asked["object_full_path"].as_str().unwrap_or_default();
    let table = TableName::from_str(name).map_err(bad)?;
    let [catalog, schema, _] = table.parts();
    let wanted = [
        ("CATALOG", catalog.to_string(), "USE CATALOG"),
        ("SCHEMA", format!("{catalog}.{schema}"), "USE SCHEMA"),
        ("TABLE", name.to_string(), "SELECT"),
        ("TABLE", name.to_string(), "MODIFY"),
    ];
    for (kind, path, privilege) in wanted {
        let found = entry(kind)
            .is_some_and(|entry| entry["object_full_path"] == path && holds(&entry["privileges"], privilege));
        if !found {
            return Err(bad(format!("{privilege} on {kind} {path} is not asked for")));
        }
    }
    // Official clients of some languages send no operations; those that do must ask for this one.
    let operations = &asked["operations"];
    if !operations.is_null() && !holds(operations, "zerobuswrite") {
        return Err(bad("the operation zerobuswrite is not asked for".into()));
    }
    Ok(TokenGrant::Table(table))
}

async fn table(
    State(shared): State<Arc<EmulatorState>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let refuse = |status: StatusCode, code: &str, message: String| {
        (status, Json(json!({ "error_code": code, "message": message }))).into_response()
    };
    if let Err(reason) = shared.tokens.scope(authorization(&headers)) {
        return refuse(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", reason.into());
    }
    let name = match TableName::from_str(&name) {
        Ok(name) => name,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE", reason),
    };
    match shared.tables.find(&name).await {
        Ok(Some(table)) => {
            shared.observer.tell(EmulatorEvent::TableRead {
                table: name.full().into(),
            });
            Json(describe(&table)).into_response()
        }
        Ok(None) => {
            let text = format!("Table '{}' does not exist.", name.full());
            refuse(StatusCode::NOT_FOUND, "TABLE_DOES_NOT_EXIST", text)
        }
        Err(error) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            error.to_string(),
        ),
    }
}

fn describe(table: &EmulatedTable) -> Value {
    let [catalog, schema, name] = table.name.parts();
    let columns: Vec<Value> = table
        .columns
        .iter()
        .enumerate()
        .map(|(position, column)| {
            json!({
                "name": column.name,
                "type_name": column.kind.name(),
                "type_text": column.kind.text(),
                "type_json": column.json().to_string(),
                "nullable": column.nullable,
                "position": position,
            })
        })
        .collect();
    json!({
        "name": name,
        "catalog_name": catalog,
        "schema_name": schema,
        "full_name": table.name.full(),
        "table_type": "MANAGED",
        "data_source_format": "DELTA",
        "columns": columns,
    })
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()
}
