//! A workspace's HTTP side: tokens and Unity Catalog.
//!
//! Invariants:
//! - Plain text goes to this machine and nowhere else, and no proxy is on the way to it.
//! - Redirects are not followed: they would carry credentials to wherever a stranger points.

use std::time::Duration;

use reqwest::{Certificate, Client, Identity, RequestBuilder, StatusCode, redirect};
use url::Url;

use super::super::flight::connection::pem;
use super::super::flight::status::Secrets;
use super::target::{invalid, is_loopback};
use crate::config::Tls;
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
}

impl Http {
    /// # Errors
    /// `CONFIG_INVALID` for a URL or certificates that mean nothing.
    pub fn new(unity_catalog_url: &str, tls: &Tls, patience: Duration) -> Result<Http> {
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
            crate::destination::install_crypto();
            if let Some(ca) = &tls.ca {
                for certificate in Certificate::from_pem_bundle(&pem(ca, "tls.ca")?).map_err(unusable)? {
                    client = client.add_root_certificate(certificate);
                }
            }
            if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
                let mut both = pem(cert, "tls.cert")?;
                both.push(b'\n');
                both.extend(pem(key.reveal(), "tls.key")?);
                client = client.identity(Identity::from_pem(&both).map_err(unusable)?);
            }
        }
        Ok(Http {
            client: client.build().map_err(unusable)?,
            base: given.trim_end_matches('/').to_string(),
        })
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }
}

/// The body of a good answer.
///
/// # Errors
/// `PERMISSION_DENIED` for a refusal, `NOT_FOUND` for what is not there, `RESOURCE_EXHAUSTED` and
/// `UNAVAILABLE` for what may pass.
pub async fn answered(request: RequestBuilder, who: &str, secrets: &Secrets) -> Result<Vec<u8>> {
    let unreachable = |error: reqwest::Error| {
        // Without the URL, which is the user's own and told by the option.
        let text = format!("{who} cannot be reached: {}", secrets.chain(&error.without_url()));
        Error::new(Code::Unavailable, text).during("connect")
    };
    let mut response = request.send().await.map_err(unreachable)?;
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
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
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
        StatusCode::REQUEST_TIMEOUT => Code::Unavailable,
        status if status.is_client_error() || status.is_redirection() => Code::PermissionDenied,
        _ => Code::Unavailable,
    }
}
