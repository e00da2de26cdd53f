//! The table's schema, as Unity Catalog has it.
//!
//! Invariants:
//! - What is not told for good (no permission, no such table, a type without a like) is no error: the
//!   stream can be opened by the batches' own schema, and the service has the last word.
//! - A schema that the catalog may give later is an error: otherwise a short outage would open a stream by a guess.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use databricks_zerobus_ingest_sdk::schema::{UcTableSchema, arrow_schema_from_uc_schema};

use super::credentials::Credentials;
use super::http::Http;
use super::target::Table;
use super::token::TokenScope;
use crate::error::{Code, Error, Result, RetryClass};

/// The table's schema, or in words why it is not known.
pub type SchemaAnswer = std::result::Result<SchemaRef, String>;

/// # Errors
/// `UNAVAILABLE` and the like: the catalog may give the schema later.
pub async fn ask(http: &Http, credentials: &Credentials, table: &Table) -> Result<SchemaAnswer> {
    let mut why = Vec::new();
    // The workspace's own interfaces want a token of their own. Where there is no such, the one for
    // writing may do.
    for scope in [TokenScope::Workspace, TokenScope::Write] {
        match ask_with(http, credentials, table, scope).await {
            Ok(told) => return Ok(told),
            Err(error) if error.code() == Code::NotFound => {
                return Ok(Err("Unity Catalog does not know the table".into()));
            }
            Err(error) if error.retry_class() == RetryClass::Never => why.push(error.message().to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(Err(why.join("; ")))
}

async fn ask_with(
    http: &Http,
    credentials: &Credentials,
    table: &Table,
    scope: TokenScope,
) -> Result<SchemaAnswer> {
    let mut tries = 0;
    let body = loop {
        tries += 1;
        let granted = match credentials.ask(scope).await {
            // A workspace may give a client tokens for writing alone.
            Err(error) if matches!(credentials, Credentials::Tokens(_)) => return Err(for_good(error)),
            granted => granted?,
        };
        let mut request = http.get(&format!("/api/2.1/unity-catalog/tables/{table}"));
        for (name, value) in &granted.headers {
            request = request.header(name, value.reveal());
        }
        match http
            .answered(request, "Unity Catalog", &granted.secrets)
            .await
            .map_err(for_good)
        {
            // A token that was kept may have been taken back.
            Err(error) if error.code() == Code::PermissionDenied && tries == 1 && !granted.fresh => {
                credentials.refused(scope, &granted).await;
            }
            answer => break answer?,
        }
    };
    let table: UcTableSchema = serde_json::from_slice(&body).map_err(|error| {
        let text = "Unity Catalog answered something that is no table";
        Error::new(Code::PermissionDenied, text).caused_by(&error)
    })?;
    Ok(arrow_schema_from_uc_schema(&table)
        .map(Arc::new)
        .map_err(|error| format!("Unity Catalog's schema has no like in Arrow: {error}")))
}

/// To whom a table is not shown, it is not told: whatever the reason, other credentials are not to be had here.
fn for_good(error: Error) -> Error {
    match error.code() {
        Code::Unauthenticated => Error::new(Code::PermissionDenied, error.message()),
        _ => error,
    }
}
