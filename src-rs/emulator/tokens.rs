//! Bearer tokens: issued, looked up, expired.
//!
//! A token is a random text; it says nothing, and nothing is signed. IssuedTokens never leave this module but
//! to the client that asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::TableName;
use crate::config::Secret;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenGrant {
    /// Streams into this table, and the table API.
    Table(TableName),
    /// The table API.
    Catalog,
    /// Everything: the configuration says so.
    Everything,
}

pub struct IssuedTokens {
    lifetime: Duration,
    issued: Mutex<HashMap<String, IssuedToken>>,
}

struct IssuedToken {
    scope: TokenGrant,
    /// Never, if none.
    expires: Option<Instant>,
}

impl IssuedTokens {
    pub fn new(lifetime: Duration, given: &[Secret]) -> IssuedTokens {
        let forever = |secret: &Secret| {
            let token = IssuedToken {
                scope: TokenGrant::Everything,
                expires: None,
            };
            (secret.reveal().to_string(), token)
        };
        IssuedTokens {
            lifetime,
            issued: Mutex::new(given.iter().map(forever).collect()),
        }
    }

    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub fn issue(&self, scope: TokenGrant) -> String {
        let text = format!("emulator-{}", Uuid::new_v4().simple());
        let now = Instant::now();
        let mut issued = self.lock();
        issued.retain(|_, token| token.expires.is_none_or(|expires| expires > now));
        let token = IssuedToken {
            scope,
            expires: Some(now + self.lifetime),
        };
        issued.insert(text.clone(), token);
        text
    }

    /// What this `authorization` header allows.
    ///
    /// # Errors
    /// A sentence that says why it allows nothing.
    pub fn scope(&self, authorization: Option<&str>) -> Result<TokenGrant, &'static str> {
        let token = bearer(authorization).ok_or("a bearer token is missing")?;
        match self.lock().get(token) {
            None => Err("the token is not known"),
            Some(token) if token.expires.is_some_and(|expires| expires <= Instant::now()) => {
                Err("the token has expired")
            }
            Some(token) => Ok(token.scope.clone()),
        }
    }

    /// The token is not known from now on.
    pub fn revoke(&self, authorization: Option<&str>) {
        if let Some(token) = bearer(authorization) {
            self.lock().remove(token);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, IssuedToken>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
