//! A target URL → which workspace, where it is, and which table.
//!
//! Invariants:
//! - A [`ZerobusTarget`] holds no secret: a URL with userinfo is refused, because URLs end up in logs.
//! - Plain text goes to this machine and nowhere else.
//!
//! It connects to nothing.

use url::{Host, Url};

use super::super::flight::target::{ServerAddress, no_url};
use super::limits::is_name;
use crate::config::Config;
use crate::error::{Code, Error, Result};

/// Every scheme that leads here.
pub const SCHEMES: [&str; 2] = ["zerobus", "zerobus+http"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZerobusTarget {
    /// As the official crate takes it: scheme and authority.
    pub endpoint: String,
    pub address: ServerAddress,
    /// The first part of the host, which is what tokens are asked for.
    pub workspace: String,
    pub table: Table,
    pub tls: bool,
    /// This machine: no proxy is on the way to it.
    pub loopback: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub catalog: String,
    pub schema: String,
    pub name: String,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.name)
    }
}

impl ZerobusTarget {
    /// # Errors
    /// `CONFIG_INVALID` saying which part of the URL means nothing.
    pub fn parse(target: &str, config: &Config) -> Result<ZerobusTarget> {
        let url = Url::parse(target).map_err(|error| invalid(no_url(target)).caused_by(&error))?;
        if !url.username().is_empty() || url.password().is_some() {
            // The target is not quoted: it holds what must not be shown.
            return Err(invalid(
                "credentials do not go into the target: use zerobus.clientId and zerobus.clientSecret, or headers",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(
                "the target ends with the table: what comes after it means nothing",
            ));
        }
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(invalid("the target names no host"));
        }
        let tls = url.scheme() == "zerobus";
        let loopback = is_loopback(host);
        if !tls && !loopback {
            return Err(invalid(
                "zerobus+http: is plain text and only for this machine: use zerobus:",
            ));
        }
        if !loopback && host.split('.').nth(1) != Some("zerobus") {
            let text = format!(
                "{host:?} is no Zerobus endpoint: it looks like <workspace>.zerobus.<region>.<domain>, which is not the workspace's own address"
            );
            return Err(invalid(&text));
        }
        if config.tls.is_given() && !tls {
            return Err(invalid(
                "tls is given, but zerobus+http: does not use it: use zerobus:",
            ));
        }
        let scheme = if tls { "https" } else { "http" };
        let default = if tls { 443 } else { 80 };
        let address = ServerAddress::Tcp {
            authority: format!("{host}:{}", url.port().unwrap_or(default)),
            tls,
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(ZerobusTarget {
            address,
            endpoint: format!("{scheme}://{host}{port}"),
            workspace: host.split('.').next().unwrap_or(host).to_string(),
            table: table(url.path())?,
            tls,
            loopback,
        })
    }
}

/// Whether a host, as it stands in a URL, is this machine.
pub fn is_loopback(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Ok(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Err(_) => false,
    }
}

fn table(path: &str) -> Result<Table> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('.').collect();
    let [catalog, schema, name] = parts[..] else {
        let text = format!("the target names a table in three parts, catalog.schema.table, not {path:?}");
        return Err(invalid(&text));
    };
    for part in parts {
        if !is_name(part) {
            let text = format!("the table's {part:?} is no name: letters, digits and underscores");
            return Err(invalid(&text));
        }
    }
    Ok(Table {
        catalog: catalog.into(),
        schema: schema.into(),
        name: name.into(),
    })
}

pub fn invalid(message: &str) -> Error {
    Error::new(Code::ConfigInvalid, message).during("connect")
}
