//! Tokens from a workspace, for a client's id and secret.
//!
//! The official crate has such a cache. It is not used, because it takes neither a certificate
//! authority nor to leave proxies alone on the way to this machine.
//!
//! Invariants:
//! - One request at a time: whoever comes meanwhile gets what it brings.
//! - A token is renewed before it expires, and served on while it is valid if that fails.
//! - What was refused is dropped, and nothing newer.
//! - No secret and no token is part of a message or of `Debug`.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::flight::status::Secrets;
use super::http::Http;
use super::target::ZerobusTarget;
use crate::config::Secret;
use crate::error::{Code, Error, Result};

/// How long before its end a token is renewed, unless a fifth of its life is less.
const AHEAD: Duration = Duration::from_secs(300);
/// After a renewal failed, how long the old token is served before another one is tried.
const RESPITE: Duration = Duration::from_secs(5);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenScope {
    /// Writing to the one table.
    Write,
    /// The workspace's own interfaces, which a token for writing may not open.
    Workspace,
}

/// A token with its number: whoever had it refused says so by the number.
#[derive(Clone)]
pub struct Token {
    pub bearer: Secret,
    pub generation: u64,
    /// It was asked for just now.
    pub fresh: bool,
}

pub struct Tokens {
    http: Http,
    client_id: String,
    client_secret: Secret,
    target: ZerobusTarget,
    write: Mutex<Slot>,
    workspace: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    generation: u64,
    kept: Option<Kept>,
}

struct Kept {
    bearer: Secret,
    expires: Instant,
    renew: Instant,
}

impl Tokens {
    pub fn new(http: Http, client_id: String, client_secret: Secret, target: ZerobusTarget) -> Tokens {
        Tokens {
            http,
            client_id,
            client_secret,
            target,
            write: Mutex::default(),
            workspace: Mutex::default(),
        }
    }

    /// # Errors
    /// `UNAUTHENTICATED` if the workspace does not know the client or its secret, `PERMISSION_DENIED` if it
    /// refuses it otherwise, `UNAVAILABLE` or `RESOURCE_EXHAUSTED` if it may do better later.
    pub async fn get(&self, scope: TokenScope) -> Result<Token> {
        let mut slot = self.slot(scope).await;
        let now = Instant::now();
        let generation = slot.generation;
        if let Some(kept) = slot.kept.as_ref().filter(|kept| now < kept.renew) {
            return Ok(kept.token(generation));
        }
        match self.ask(scope).await {
            Ok((bearer, life)) => {
                slot.generation += 1;
                slot.kept = life.map(|life| Kept {
                    bearer: bearer.clone(),
                    // Counted from before the question: the answer was older when it came.
                    expires: now + life,
                    renew: now + life - AHEAD.min(life / 5),
                });
                Ok(Token {
                    bearer,
                    generation: slot.generation,
                    fresh: true,
                })
            }
            Err(error) => match &mut slot.kept {
                Some(kept) if Instant::now() < kept.expires => {
                    kept.renew = (Instant::now() + RESPITE).min(kept.expires);
                    Ok(kept.token(generation))
                }
                _ => Err(error),
            },
        }
    }

    /// The server would not have the token of this number.
    pub async fn refused(&self, scope: TokenScope, generation: u64) {
        let mut slot = self.slot(scope).await;
        if slot.generation == generation {
            slot.kept = None;
        }
    }

    /// What tokens are asked for with; to be taken out of what others say.
    pub fn secret(&self) -> &Secret {
        &self.client_secret
    }

    async fn slot(&self, scope: TokenScope) -> MutexGuard<'_, Slot> {
        match scope {
            TokenScope::Write => self.write.lock().await,
            TokenScope::Workspace => self.workspace.lock().await,
        }
    }

    /// The token, and how long it may be kept.
    async fn ask(&self, scope: TokenScope) -> Result<(Secret, Option<Duration>)> {
        let mut secrets = Secrets::default();
        secrets.add(&self.client_secret);
        let basic = format!("{}:{}", self.client_id, self.client_secret.reveal());
        secrets.add(&Secret::new(BASE64_STANDARD.encode(basic)));
        let mut form = vec![
            ("grant_type", "client_credentials".to_string()),
            ("scope", "all-apis".into()),
        ];
        if scope == TokenScope::Write {
            form.push(("resource", resource(&self.target)));
            form.push(("authorization_details", details(&self.target)));
        }
        let request = self
            .http
            .post("/oidc/v1/token")
            .basic_auth(&self.client_id, Some(self.client_secret.reveal()))
            .form(&form);
        let body = self
            .http
            .answered(request, "the token endpoint", &secrets)
            .await?;
        let useless = |what: &str| {
            let text = format!("the token endpoint answered {what}");
            Error::new(Code::PermissionDenied, text).during("token")
        };
        let answer: Value =
            serde_json::from_slice(&body).map_err(|_| useless("something that is no JSON"))?;
        let token = answer["access_token"]
            .as_str()
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| useless("without a token that fits into a header"))?;
        Ok((Secret::new(token), life(&answer["expires_in"])))
    }
}

impl Kept {
    fn token(&self, generation: u64) -> Token {
        Token {
            bearer: self.bearer.clone(),
            generation,
            fresh: false,
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// Seconds, as a number or as text. A token of unknown life is used once and not kept.
fn life(expires_in: &Value) -> Option<Duration> {
    let seconds = match expires_in {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // Beyond a year nobody means it, and clocks overflow.
    let seconds = seconds.filter(|seconds| *seconds > 0)?.min(366 * 24 * 3600);
    Some(Duration::from_secs(seconds))
}

fn resource(target: &ZerobusTarget) -> String {
    format!(
        "api://databricks/workspaces/{}/zerobusDirectWriteApi",
        target.workspace
    )
}

/// What the token is to allow: this table and nothing beside it.
fn details(target: &ZerobusTarget) -> String {
    let table = &target.table;
    let privilege = |kind: &str, name: String, privileges: &[&str]| {
        json!({
            "type": "unity_catalog_privileges",
            "privileges": privileges,
            "object_type": kind,
            "object_full_path": name,
        })
    };
    let mut on_table = privilege("TABLE", table.to_string(), &["SELECT", "MODIFY"]);
    on_table["operations"] = json!(["zerobuswrite"]);
    json!([
        privilege("CATALOG", table.catalog.clone(), &["USE CATALOG"]),
        privilege(
            "SCHEMA",
            format!("{}.{}", table.catalog, table.schema),
            &["USE SCHEMA"]
        ),
        on_table,
    ])
    .to_string()
}
