//! A target URL → where the server is and what is put there.
//!
//! Invariants:
//! - A [`FlightTarget`] holds no secret: a URL with userinfo is refused, because URLs end up in logs.
//! - Every part of the URL means something, or is refused by name.
//!
//! It connects to nothing.

use std::collections::BTreeMap;
use std::fmt;

use url::Url;

use crate::config::{Config, FlightAcknowledgement, FlightDescriptor};
use crate::error::{Code, Error, Result};

/// Where batches go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlightTarget {
    pub address: ServerAddress,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    Tcp { authority: String, tls: bool },
    Unix { path: String },
}

/// As it is told in errors: host and port, or the path.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp { authority, .. } => f.write_str(authority),
            ServerAddress::Unix { path } => f.write_str(path),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Put(FlightDescriptor),
    Ingest(Ingest),
}

/// A table of a Flight SQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    pub table: String,
    pub schema: Option<String>,
    pub catalog: Option<String>,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The table exists.
    Append,
    /// The table does not exist.
    Create,
    /// Whatever exists goes.
    Replace,
    /// Created if it is missing.
    CreateAppend,
}

/// Every scheme that leads here, for the table of schemes in `destination`.
pub const SCHEMES: [&str; 5] = ["grpc", "grpc+tls", "grpc+unix", "flightsql", "flightsql+tls"];

impl FlightTarget {
    /// # Errors
    /// `CONFIG_INVALID` saying which part of the URL or which option beside it means nothing.
    pub fn parse(target: &str, config: &Config) -> Result<FlightTarget> {
        let url = Url::parse(target).map_err(|error| invalid(no_url(target)).caused_by(&error))?;
        if !url.username().is_empty() || url.password().is_some() {
            // The target is not quoted: it holds what must not be shown.
            return Err(invalid(
                "credentials do not go into the target: use flight.auth or headers",
            ));
        }
        if url.fragment().is_some() {
            return Err(invalid("a fragment in the target means nothing"));
        }
        let mut query = query(&url)?;
        let scheme = url.scheme();
        let parsed = match scheme {
            "grpc+unix" => unix(&url, &mut query, config)?,
            "flightsql" | "flightsql+tls" => FlightTarget {
                address: tcp(&url)?,
                what: What::Ingest(ingest(&url, &mut query, config)?),
            },
            _ => FlightTarget {
                address: tcp(&url)?,
                what: What::Put(descriptor(segments(&url)?, config)?),
            },
        };
        if let Some(name) = query.keys().next() {
            let text = format!("?{name}= in a {scheme}: target means nothing");
            return Err(invalid(&text));
        }
        if config.tls.is_given() && !matches!(parsed.address, ServerAddress::Tcp { tls: true, .. }) {
            let text = format!("tls is given, but {scheme}: does not use it: say {scheme}+tls:");
            return Err(invalid(&text));
        }
        Ok(parsed)
    }
}

/// What to say of a target that is no URL. It is not quoted: it may hold a secret.
pub fn no_url(target: &str) -> &'static str {
    let authority = target.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let address = authority.rsplit('@').next().unwrap_or_default();
    match address.matches(':').count() > 1 && !address.contains('[') {
        true => "the target is no URL: an address of IPv6 goes into brackets, as in grpc://[::1]:8815",
        false => "the target is no URL",
    }
}

fn tcp(url: &Url) -> Result<ServerAddress> {
    let tls = url.scheme().ends_with("+tls");
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| invalid("the target names no host"))?;
    // A port left out is the one that Flight servers are mostly found at behind TLS, and nowhere else.
    let port = match (url.port(), tls) {
        (Some(port), _) => port,
        (None, true) => 443,
        (None, false) => return Err(invalid("the target names no port")),
    };
    Ok(ServerAddress::Tcp {
        authority: format!("{host}:{port}"),
        tls,
    })
}

fn unix(url: &Url, query: &mut BTreeMap<String, String>, config: &Config) -> Result<FlightTarget> {
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(invalid(
            "grpc+unix: takes an absolute path: grpc+unix:///run/flight.sock",
        ));
    }
    let path = percent_decoded(url.path())?;
    if path.is_empty() || path == "/" {
        return Err(invalid("grpc+unix: names no socket"));
    }
    let given = query.remove("path").unwrap_or_default();
    let segments = given
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_string);
    Ok(FlightTarget {
        address: ServerAddress::Unix { path },
        what: What::Put(descriptor(segments.collect(), config)?),
    })
}

fn descriptor(path: Vec<String>, config: &Config) -> Result<FlightDescriptor> {
    match &config.flight.descriptor {
        Some(_) if !path.is_empty() => Err(invalid(
            "the target has a path and flight.descriptor is given: one of them",
        )),
        Some(descriptor) => Ok(descriptor.clone()),
        None => Ok(FlightDescriptor::Path(path)),
    }
}

fn ingest(url: &Url, query: &mut BTreeMap<String, String>, config: &Config) -> Result<Ingest> {
    if config.flight.descriptor.is_some() {
        return Err(invalid(
            "flight.descriptor means nothing for flightsql:, which has one of its own",
        ));
    }
    if config.flight.acknowledgement != FlightAcknowledgement::Stream {
        return Err(invalid(
            "flight.acknowledgement must be \"stream\" for flightsql:",
        ));
    }
    if config.flight.streams != 1 {
        return Err(invalid(
            "flight.streams must be 1 for flightsql:, which commits one stream at a time",
        ));
    }
    let [table] = <[String; 1]>::try_from(segments(url)?)
        .map_err(|_| invalid("flightsql: takes one table: flightsql://host:port/<table>"))?;
    let mode = match query.remove("mode").as_deref() {
        None if config.create_if_missing => Mode::CreateAppend,
        None | Some("append") => Mode::Append,
        Some("create") => Mode::Create,
        Some("replace") => Mode::Replace,
        Some(other) => {
            let text = format!("?mode= must be append, create or replace, not {other:?}");
            return Err(invalid(&text));
        }
    };
    Ok(Ingest {
        table,
        schema: query.remove("schema"),
        catalog: query.remove("catalog"),
        mode,
    })
}

fn segments(url: &Url) -> Result<Vec<String>> {
    url.path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(percent_decoded)
        .collect()
}

fn query(url: &Url) -> Result<BTreeMap<String, String>> {
    let mut query = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        if query.insert(name.to_string(), value.to_string()).is_some() {
            return Err(invalid(&format!("?{name}= is given twice")));
        }
    }
    Ok(query)
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| invalid("a % in the target is not followed by two hex digits"))?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid("the path of the target is not UTF-8"))
}

fn invalid(text: &str) -> Error {
    Error::new(Code::ConfigInvalid, text).during("connect")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(options: serde_json::Value) -> Config {
        Config::from_json(&options).unwrap()
    }

    fn parse(target: &str) -> Result<FlightTarget> {
        FlightTarget::parse(target, &Config::default())
    }

    fn path(segments: &[&str]) -> What {
        What::Put(FlightDescriptor::Path(
            segments.iter().map(|segment| segment.to_string()).collect(),
        ))
    }

    #[test]
    fn the_path_of_the_target_is_the_descriptor() {
        let target = parse("grpc://localhost:8815/a/b%20c%2Fd").unwrap();
        assert_eq!(target.what, path(&["a", "b c/d"]));
        let address = |authority: &str, tls| ServerAddress::Tcp {
            authority: authority.into(),
            tls,
        };
        assert_eq!(target.address, address("localhost:8815", false));
        assert_eq!(
            parse("grpc+tls://[::1]").unwrap().address,
            address("[::1]:443", true)
        );
        let unix = parse("grpc+unix:///run/my%20flight.sock?path=a/b").unwrap();
        assert_eq!(
            unix.address,
            ServerAddress::Unix {
                path: "/run/my flight.sock".into()
            }
        );
        assert_eq!(unix.what, path(&["a", "b"]));
    }

    #[test]
    fn a_descriptor_given_by_option_stands_alone() {
        let command = config(json!({"flight": {"descriptor": {"command": "SELECT"}}}));
        let target = FlightTarget::parse("grpc://h:1", &command).unwrap();
        assert_eq!(
            target.what,
            What::Put(FlightDescriptor::Command(b"SELECT".to_vec()))
        );
        assert!(FlightTarget::parse("grpc://h:1/a", &command).is_err());
        assert!(FlightTarget::parse("flightsql://h:1/t", &command).is_err());
        let encoded = config(json!({"flight": {"descriptor": {"commandBase64": "AAE="}}}));
        let target = FlightTarget::parse("grpc://h:1", &encoded).unwrap();
        assert_eq!(target.what, What::Put(FlightDescriptor::Command(vec![0, 1])));
        let named = config(json!({"flight": {"descriptor": {"path": ["x"]}}}));
        assert_eq!(
            FlightTarget::parse("grpc://h:1", &named).unwrap().what,
            path(&["x"])
        );
    }

    #[test]
    fn a_flight_sql_target_names_a_table_and_a_mode() {
        let mode = |target: &str| match parse(target).unwrap().what {
            What::Ingest(ingest) => ingest.mode,
            What::Put(_) => panic!("no table"),
        };
        assert_eq!(mode("flightsql://h:1/t"), Mode::CreateAppend);
        assert_eq!(mode("flightsql://h:1/t?mode=append"), Mode::Append);
        assert_eq!(mode("flightsql://h:1/t?mode=create"), Mode::Create);
        assert_eq!(mode("flightsql+tls://h/t?mode=replace"), Mode::Replace);
        let target = parse("flightsql://h:1/t?schema=s&catalog=c").unwrap();
        let What::Ingest(ingest) = target.what else {
            panic!("no table")
        };
        assert_eq!(
            (ingest.schema.as_deref(), ingest.catalog.as_deref()),
            (Some("s"), Some("c"))
        );
    }

    #[test]
    fn what_means_nothing_is_refused_and_no_secret_is_quoted() {
        for (target, word) in [
            ("grpc://u:hunter2@h:1/a", "credentials"),
            ("grpc://h:1/a#b", "fragment"),
            ("grpc://h/a", "port"),
            ("grpc:///a", "host"),
            ("grpc://h:1/a?x=1", "?x="),
            ("grpc://h:1/a?x=1&x=2", "twice"),
            ("grpc://h:1/%zz", "hex"),
            ("grpc://h:1/%ff", "UTF-8"),
            ("grpc+unix://host/a", "absolute"),
            ("grpc+unix:///", "socket"),
            ("flightsql://h:1/a/b", "one table"),
            ("flightsql://h:1/a?mode=upsert", "upsert"),
            ("grpc", "URL"),
            ("grpc://::1:8815", "brackets"),
            ("grpc://hunter2:hunter2@fe80::1:8815/a", "brackets"),
        ] {
            let error = parse(target).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{target}");
            assert!(error.message().contains(word), "{target}: {}", error.message());
            assert!(!error.message().contains("hunter2"));
        }
        for options in [
            json!({"flight": {"acknowledgement": "part"}}),
            json!({"flight": {"streams": 2}}),
            json!({"tls": {"serverName": "x"}}),
        ] {
            assert!(FlightTarget::parse("flightsql://h:1/t", &config(options)).is_err());
        }
    }
}
