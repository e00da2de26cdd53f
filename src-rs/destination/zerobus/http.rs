//! A workspace's HTTP side: tokens and Unity Catalog.
//!
//! Invariants:
//! - Plain text goes to this machine and nowhere else, and no proxy is on the way to it.
//! - Redirects are not followed: they would carry credentials to wherever a stranger points.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, RequestBuilder, Response, StatusCode, redirect};
use url::Url;

use super::super::flight::status::Secrets;
use super::target::{invalid, is_loopback};
use crate::config::TlsOptions;
use crate::destination::tls::{self, Material};
use crate::error::{Code, Error, Result};

/// Of an answer that says no, in bytes: more than anybody reads.
const MAX_TEXT: usize = 500;
/// And so much of it is looked at, so that no secret is cut in two and not recognised.
const MAX_REFUSAL: usize = 64 << 10;
/// Of an answer that says yes: far more than the columns of the widest table.
const MAX_BODY: usize = 16 << 20;

#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    base: String,
    host: String,
    port: u16,
    own_ca: bool,
    /// It has answered once.
    met: Arc<AtomicBool>,
}

impl Http {
    /// # Errors
    /// `CONFIG_INVALID` for a URL or certificates that mean nothing.
    pub fn new(unity_catalog_url: &str, tls: &TlsOptions, patience: Duration) -> Result<Http> {
        let given = match unity_catalog_url.contains("://") {
            true => unity_catalog_url.to_string(),
            // As the variables of the environment have it.
            false => format!("https://{unity_catalog_url}"),
        };
        let option = |what: &str| invalid(&format!("zerobus.unityCatalogUrl {what}"));
        let url = Url::parse(&given).map_err(|error| option("is no URL").caused_by(&error))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(option("holds credentials: they have options of their own"));
        }
        let loopback = is_loopback(url.host_str().unwrap_or_default());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(option("is plain text, and a secret goes there: use https")),
            _ => return Err(option("is neither https nor http")),
        }
        let unusable = |error: reqwest::Error| invalid("tls cannot be used").caused_by(&error);
        let mut client = Client::builder()
            .timeout(patience)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("arrow-ingest/", env!("CARGO_PKG_VERSION")));
        if loopback {
            client = client.no_proxy();
        }
        if url.scheme() == "https" {
            let material = Material::read(tls)?;
            if let Some(authorities) = material.authorities() {
                client = client.tls_built_in_root_certs(false);
                for authority in authorities {
                    let authority = Certificate::from_der(authority).map_err(unusable)?;
                    client = client.add_root_certificate(authority);
                }
            }
            if let Some(own) = material.own() {
                client = client.identity(Identity::from_pem(&own).map_err(unusable)?);
            }
        }
        Ok(Http {
            client: client.build().map_err(unusable)?,
            base: given.trim_end_matches('/').to_string(),
            host: url.host_str().unwrap_or_default().to_string(),
            port: url.port_or_known_default().unwrap_or_default(),
            own_ca: tls.ca.is_some(),
            met: Arc::default(),
        })
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    /// The body of a good answer.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for credentials that are wrong, `PERMISSION_DENIED` for any other refusal,
    /// `NOT_FOUND` for what is not there, `RESOURCE_EXHAUSTED` and `UNAVAILABLE` for what may pass,
    /// `CONFIG_INVALID` for a server whose certificate is not accepted, until it was once.
    pub async fn answered(&self, request: RequestBuilder, who: &str, secrets: &Secrets) -> Result<Vec<u8>> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error, who, secrets))?;
        self.met.store(true, Ordering::Release);
        let broken = |error: reqwest::Error| self.unreachable(error, who, secrets);
        read(response, who, secrets, broken).await
    }

    fn unreachable(&self, error: reqwest::Error, who: &str, secrets: &Secrets) -> Error {
        // Without the URL, which is the user's own and told by the option.
        let error = error.without_url();
        let met = self.met.load(Ordering::Acquire);
        let (code, text) = match tls::explained(&error, &self.host, self.own_ca) {
            Some(text) if !met => (Code::ConfigInvalid, text),
            Some(text) => (Code::Unavailable, text),
            None => (Code::Unavailable, secrets.chain(&error)),
        };
        let text = format!("{who} at {}:{} cannot be reached: {text}", self.host, self.port);
        Error::new(code, text).during("connect")
    }
}

async fn read(
    mut response: Response,
    who: &str,
    secrets: &Secrets,
    broken: impl Fn(reqwest::Error) -> Error,
) -> Result<Vec<u8>> {
    let status = response.status();
    let wait = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let limit = if status.is_success() {
        MAX_BODY
    } else {
        MAX_REFUSAL
    };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(&broken)? {
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            break;
        }
    }
    if status.is_success() {
        return Ok(body);
    }
    let mut said = secrets.scrub(String::from_utf8_lossy(&body).trim());
    said.truncate(said.floor_char_boundary(MAX_TEXT));
    let error = Error::new(code(status), format!("{who} answered {status}: {said}")).during("connect");
    Err(match wait {
        Some(wait) => error.retry_after(wait),
        None => error,
    })
}

fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::REQUEST_TIMEOUT => Code::Unavailable,
        status if status.is_client_error() || status.is_redirection() => Code::PermissionDenied,
        _ => Code::Unavailable,
    }
}
