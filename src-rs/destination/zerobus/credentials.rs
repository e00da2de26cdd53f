//! Who this client is towards the service: a client's id and secret, or headers of the user's own.
//!
//! Invariants:
//! - Headers that the user gave replace tokens altogether.
//! - Whoever had credentials refused says so, and gets others the next time.
//! - The environment is read here, once, when a destination is connected to, and only for what no option
//!   gives.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{HeadersProvider, ZerobusResult};
use futures::future::BoxFuture;

use super::super::flight::status::Secrets;
use super::http::Http;
use super::target::{ZerobusTarget, invalid};
use super::token::{TokenScope, Tokens};
use crate::callbacks::HeadersReason;
use crate::config::{Config, Secret};
use crate::destination::headers::Headers;
use crate::error::Result;
use crate::trace::TraceContext;

const URLS: [&str; 3] = [
    "ZEROBUS_UNITY_CATALOG_URL",
    "DATABRICKS_HOST",
    "DATABRICKS_WORKSPACE_URL",
];
const IDS: [&str; 2] = ["ZEROBUS_CLIENT_ID", "DATABRICKS_CLIENT_ID"];
const SECRETS: [&str; 2] = ["ZEROBUS_CLIENT_SECRET", "DATABRICKS_CLIENT_SECRET"];

const TABLE_NAME: &str = "x-databricks-zerobus-table-name";

/// Forgets the credentials of a stream.
pub type OnRefused = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Debug)]
pub enum Credentials {
    Tokens(Box<Tokens>),
    Given {
        headers: Headers,
        /// The server would not have the last ones.
        stale: AtomicBool,
    },
}

/// Headers for one stream or one request.
pub struct Granted {
    pub headers: Vec<(String, Secret)>,
    pub secrets: Secrets,
    /// They were made just now: nobody has any that are better.
    pub fresh: bool,
    generation: u64,
}

impl Credentials {
    /// The credentials, and Unity Catalog if it is known where that is.
    ///
    /// # Errors
    /// `CONFIG_INVALID` saying what is missing and where it can be given.
    pub fn new(
        target: &ZerobusTarget,
        config: &Config,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(Credentials, Option<Http>)> {
        let (options, patience) = (&config.zerobus, config.zerobus.connect_timeout);
        let first = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| environment(name));
            found.find(|value| !value.is_empty())
        };
        let given = !config.headers.is_empty() || config.header_provider.is_some();
        let url = options.unity_catalog_url.clone();
        // Another workspace's address in the environment must not draw headers that were given for this one.
        let url = if given { url } else { url.or_else(|| first(&URLS)) };
        let http = url
            .map(|url| Http::new(&url, &config.tls, patience))
            .transpose()?;
        if given {
            let names = config.headers.keys();
            names.map(String::as_str).try_for_each(check_name)?;
            let headers = Headers::new(
                config.headers.clone(),
                config.header_provider.clone(),
                config.headers_timeout,
            );
            let stale = AtomicBool::new(false);
            return Ok((Credentials::Given { headers, stale }, http));
        }
        let id = options.client_id.clone().or_else(|| first(&IDS));
        let secret = options.client_secret.clone();
        let secret = secret.or_else(|| first(&SECRETS).map(Secret::new));
        let missing = |option: &str, names: &[&str]| {
            invalid(&format!(
                "zerobus.{option} is missing: give it, or set {}, or give headers",
                names.join(" or ")
            ))
        };
        let known = http.clone().ok_or_else(|| missing("unityCatalogUrl", &URLS))?;
        let id = id.ok_or_else(|| missing("clientId", &IDS))?;
        let secret = secret.ok_or_else(|| missing("clientSecret", &SECRETS))?;
        let tokens = Tokens::new(known, id, secret, target.clone());
        Ok((Credentials::Tokens(Box::new(tokens)), http))
    }

    /// # Errors
    /// What the token endpoint or the user's provider says.
    pub async fn ask(&self, scope: TokenScope) -> Result<Granted> {
        let mut secrets = Secrets::default();
        let (headers, fresh, generation) = match self {
            Credentials::Tokens(tokens) => {
                let token = tokens.get(scope).await?;
                secrets.add(tokens.secret());
                let bearer = Secret::new(format!("Bearer {}", token.bearer.reveal()));
                let headers = vec![("authorization".to_string(), bearer)];
                (headers, token.fresh, token.generation)
            }
            Credentials::Given { headers, stale } => {
                let reason = match stale.swap(false, Ordering::AcqRel) {
                    true => HeadersReason::Unauthenticated,
                    false => HeadersReason::Connect,
                };
                let fresh = reason == HeadersReason::Unauthenticated;
                (headers.ask(reason).await?, fresh, 0)
            }
        };
        for (name, value) in &headers {
            check_name(name)?;
            secrets.add(value);
        }
        Ok(Granted {
            headers,
            secrets,
            fresh,
            generation,
        })
    }

    /// The server would not have these.
    pub async fn refused(&self, scope: TokenScope, granted: &Granted) {
        self.refused_generation(scope, granted.generation).await;
    }

    async fn refused_generation(&self, scope: TokenScope, generation: u64) {
        match self {
            Credentials::Tokens(tokens) => tokens.refused(scope, generation).await,
            Credentials::Given { stale, .. } => stale.store(true, Ordering::Release),
        }
    }

    /// To be called when a stream with these is refused in its midst, and to be waited for before anybody
    /// opens another: it would be tried with the same ones.
    pub fn on_refusal(self: &Arc<Self>, granted: &Granted) -> OnRefused {
        let (credentials, generation) = (Arc::clone(self), granted.generation);
        Box::new(move || {
            let credentials = Arc::clone(&credentials);
            Box::pin(async move {
                credentials
                    .refused_generation(TokenScope::Write, generation)
                    .await
            })
        })
    }
}

/// The official crate leaves out the one and chokes on the other.
fn check_name(name: &str) -> Result<()> {
    let lower = name.to_ascii_lowercase();
    let why = match lower.as_str() {
        TABLE_NAME => "is the service's own and cannot be set",
        binary if binary.ends_with("-bin") => "would carry bytes, which this service has no headers for",
        other if interned(other).is_none() => "is one name too many: this process has used 1,024 others",
        _ => return Ok(()),
    };
    Err(invalid(&format!("headers.{lower} {why}")))
}

impl Granted {
    /// Adds the user's trace, unless they gave one as a header.
    pub fn carry(&mut self, trace: &TraceContext) {
        for (name, value) in trace.headers() {
            let given = |(other, _): &(String, Secret)| other.eq_ignore_ascii_case(name);
            if !self.headers.iter().any(given) && interned(name).is_some() {
                self.headers.push((name.to_string(), Secret::new(value)));
            }
        }
    }

    /// As the official crate wants them.
    pub fn provider(&self) -> Arc<dyn HeadersProvider> {
        let headers = self.headers.iter();
        // All of them are known: `check_name` has seen to it.
        let known =
            headers.filter_map(|(name, value)| Some((interned(&name.to_ascii_lowercase())?, value.clone())));
        Arc::new(Fixed(known.collect()))
    }
}

/// The headers of one stream. They are made before it and dropped with it: the crate asks once.
struct Fixed(HashMap<&'static str, Secret>);

#[async_trait]
impl HeadersProvider for Fixed {
    async fn get_headers(&self) -> ZerobusResult<HashMap<&'static str, String>> {
        let shown = |(name, value): (&&'static str, &Secret)| (*name, value.reveal().to_string());
        Ok(self.0.iter().map(shown).collect())
    }
}

/// How many names are kept. A provider that gives another one each time would take memory without end.
const MAX_NAMES: usize = 1_024;

/// The crate wants names that live for ever. A process uses few, so each is kept once; `None` for one too many.
fn interned(name: &str) -> Option<&'static str> {
    static NAMES: Mutex<Option<Names>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.get_or_insert_default().keep(name)
}

#[derive(Default)]
struct Names(HashSet<&'static str>);

impl Names {
    fn keep(&mut self, name: &str) -> Option<&'static str> {
        if let Some(known) = self.0.get(name) {
            return Some(known);
        }
        if self.0.len() >= MAX_NAMES {
            return None;
        }
        let kept: &'static str = Box::leak(name.to_string().into_boxed_str());
        self.0.insert(kept);
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_live_for_ever_are_few() {
        let mut names = Names::default();
        let first = names.keep("x-0").unwrap();
        for index in 0..10_000 {
            let kept = names.keep(&format!("x-{index}"));
            assert_eq!(kept.is_some(), index < MAX_NAMES, "{index}");
        }
        assert!(std::ptr::eq(names.keep("x-0").unwrap(), first));
        assert_eq!(names.0.len(), MAX_NAMES);
    }
}
