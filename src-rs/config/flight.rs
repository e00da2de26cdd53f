//! The options of `flight` and of what every network destination shares: `headers` and `tls`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Compression;
use super::group::Group;

#[derive(Debug, Clone)]
pub struct FlightOptions {
    pub acknowledgement: FlightAcknowledgement,
    /// Streams in parallel; order is kept within each.
    pub streams: usize,
    /// Of the buffers of a message; never Snappy, which Arrow IPC does not know.
    pub compression: Compression,
    /// What the server takes in one message.
    pub max_message_size: usize,
    /// Instead of the path in the target.
    pub descriptor: Option<FlightDescriptor>,
    /// How long rows may wait for the end of their stream, which is what acknowledges them.
    pub commit_interval: Duration,
    /// The server keeps nothing of a stream that it refuses.
    pub atomic_refusals: bool,
    /// Silence after which the server is asked whether it is still there; zero never asks.
    pub keep_alive: Duration,
    pub connect_timeout: Duration,
    /// How long the server may leave unanswered what it owes an answer to.
    pub acknowledgement_timeout: Duration,
    pub dictionaries: FlightDictionaries,
    pub auth: Option<BasicAuth>,
}

/// What makes a write count as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightAcknowledgement {
    /// The server ended the stream well.
    Stream,
    /// The server answers every part, in order.
    Part,
    /// The server says how far it got, as `specs/flight-ack.md` has it.
    Cumulative,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlightDescriptor {
    Path(Vec<String>),
    Command(Vec<u8>),
}

/// What becomes of dictionary-encoded columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightDictionaries {
    /// They are sent as plain values.
    Hydrate,
    /// They are sent as dictionary batches.
    Keep,
}

#[derive(Debug, Clone)]
pub struct BasicAuth {
    pub username: String,
    pub password: Secret,
}

/// PEM text, or the path of a file that holds it.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<Secret>,
    /// The name that the server's certificate is for, when it is not the host's.
    pub server_name: Option<String>,
}

impl TlsOptions {
    pub fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some() || self.server_name.is_some()
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

pub(super) fn read(group: &mut Group<'_>) -> FlightOptions {
    const ACKNOWLEDGEMENTS: [(&str, FlightAcknowledgement); 3] = [
        ("stream", FlightAcknowledgement::Stream),
        ("part", FlightAcknowledgement::Part),
        ("cumulative", FlightAcknowledgement::Cumulative),
    ];
    const COMPRESSIONS: [(&str, Compression); 3] = [
        ("none", Compression::None),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ];
    FlightOptions {
        acknowledgement: group.choice(
            "acknowledgement",
            FlightAcknowledgement::Stream,
            &ACKNOWLEDGEMENTS,
        ),
        streams: group.count("streams", 1, 1),
        compression: group.choice("compression", Compression::None, &COMPRESSIONS),
        // What gRPC servers take when nobody told them otherwise.
        max_message_size: group.bytes("maxMessageSize", 4 << 20, 16 << 10),
        descriptor: descriptor(group),
        commit_interval: group.duration("commitInterval", Duration::from_secs(1)),
        atomic_refusals: group.flag("atomicRefusals", false),
        // More than the five minutes in which gRPC servers allow one ping without data.
        keep_alive: group.duration("keepAlive", Duration::from_secs(330)),
        connect_timeout: group.duration("connectTimeout", Duration::from_secs(10)),
        acknowledgement_timeout: patience(group, "acknowledgementTimeout", Duration::from_secs(300)),
        dictionaries: group.choice(
            "dictionaries",
            FlightDictionaries::Hydrate,
            &[
                ("hydrate", FlightDictionaries::Hydrate),
                ("keep", FlightDictionaries::Keep),
            ],
        ),
        auth: auth(group),
    }
}

/// A time that is left for something, so none at all is a mistake.
pub(super) fn patience(group: &mut Group<'_>, name: &'static str, default: Duration) -> Duration {
    let patience = group.duration(name, default);
    if patience.is_zero() {
        group.issue(name, "leaves no time for an answer".into(), None);
    }
    patience
}

/// What `headers` says: names and values, or that somebody is to be asked.
pub(super) struct HeadersOptions {
    pub given: BTreeMap<String, Secret>,
    pub asked: bool,
    pub timeout: Duration,
}

pub(super) fn read_headers(root: &mut Group<'_>) -> HeadersOptions {
    let mut headers = HeadersOptions {
        given: BTreeMap::new(),
        asked: false,
        timeout: Duration::from_secs(10),
    };
    // No value of a header is `true`, so this cannot be one whose name is "provider".
    if root.holds_true("headers", "provider") {
        root.group("headers", |group| {
            headers.asked = group.flag("provider", true);
            headers.timeout = patience(group, "timeout", headers.timeout);
        });
        return headers;
    }
    let given = root.strings("headers");
    for (name, value) in &given {
        if let Some(fault) = header_fault(name, value) {
            root.issue(&format!("headers.{name}"), fault.into(), None);
        }
    }
    headers.given = given
        .into_iter()
        .map(|(name, value)| (name, Secret(value)))
        .collect();
    headers
}

/// Headers that the protocols set themselves: another value would break the call, or be left out in silence.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a header cannot be sent, in words that follow its name, and without its value. Names that end in
/// `-bin` carry any bytes: gRPC wraps them.
pub fn header_fault(name: &str, value: &str) -> Option<&'static str> {
    let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) else {
        return Some("cannot be the name of a header");
    };
    let name = name.as_str();
    if name.starts_with("grpc-") || RESERVED.contains(&name) {
        return Some("is the protocol's own and cannot be set");
    }
    if name.ends_with("-bin") || value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    Some(match value.chars().find(|letter| !matches!(letter, ' '..='~')) {
        Some('\u{feff}') => {
            "has a value that is not visible ASCII: it begins with a byte order mark, as some editors put before a text"
        }
        Some('\n' | '\r') => {
            "has a value that is not visible ASCII: it has a line break, as at the end of a file"
        }
        _ => "has a value that is not visible ASCII",
    })
}

pub(super) fn read_tls(group: &mut Group<'_>) -> TlsOptions {
    let tls = TlsOptions {
        ca: group.text("ca"),
        cert: group.text("cert"),
        key: group.secret("key").map(Secret),
        server_name: group.text("serverName"),
    };
    if tls.cert.is_some() != tls.key.is_some() {
        let (given, missing) = if tls.cert.is_some() {
            ("cert", "key")
        } else {
            ("key", "cert")
        };
        group.issue(given, format!("needs {missing} beside it"), None);
    }
    tls
}

/// A path of segments, or a command as text or base64.
fn descriptor(group: &mut Group<'_>) -> Option<FlightDescriptor> {
    if !group.holds("descriptor") {
        group.value("descriptor");
        return None;
    }
    group.group("descriptor", |group| {
        let names = group.names("path");
        let path = group.holds("path").then_some(names);
        let text = group.text("command");
        let encoded = group.text("commandBase64");
        let command = match encoded {
            Some(encoded) => match BASE64_STANDARD.decode(encoded.as_bytes()) {
                Ok(bytes) => Some(bytes),
                Err(_) => {
                    group.issue("commandBase64", "is not base64".into(), None);
                    None
                }
            },
            None => None,
        };
        let given = [path.is_some(), text.is_some(), group.holds("commandBase64")];
        if given.into_iter().filter(|given| *given).count() != 1 {
            let text = "takes exactly one of path, command and commandBase64";
            group.issue("path", text.into(), None);
        }
        match (path, text, command) {
            (Some(path), _, _) => Some(FlightDescriptor::Path(path)),
            (_, Some(text), _) => Some(FlightDescriptor::Command(text.into_bytes())),
            (_, _, Some(bytes)) => Some(FlightDescriptor::Command(bytes)),
            _ => None,
        }
    })
}

fn auth(group: &mut Group<'_>) -> Option<BasicAuth> {
    if !group.holds("auth") {
        group.value("auth");
        return None;
    }
    group.group("auth", |group| {
        let (username, password) = (group.secret("username"), group.secret("password"));
        match (username, password) {
            (Some(username), Some(password)) => Some(BasicAuth {
                username,
                password: Secret(password),
            }),
            (username, _) => {
                let missing = if username.is_none() {
                    "username"
                } else {
                    "password"
                };
                group.issue(missing, "is missing".into(), None);
                None
            }
        }
    })
}
