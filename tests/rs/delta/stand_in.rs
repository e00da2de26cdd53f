//! A small S3 on a port of its own, which answers wrongly when it is told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a request is, as far as the tests tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    List,
    Get,
    Put,
    Head,
    Delete,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub kind: Kind,
    /// Without bucket and leading slash.
    pub key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    pub fn is_of_log(&self) -> bool {
        self.key.contains("_delta_log")
            || self
                .query
                .get("prefix")
                .is_some_and(|at| at.contains("_delta_log"))
    }

    pub fn is_of_data(&self) -> bool {
        self.key.ends_with(".parquet") && !self.is_of_log()
    }
}

#[derive(Debug, Clone)]
pub enum Wrong {
    /// A status, headers and a body.
    Status(u16, &'static str, &'static str),
    /// The right answer, half of its body, and the end of the connection.
    Cut,
    /// The right status with a body that is not what was asked for.
    Garbage,
    /// The end of the connection, and no answer.
    Reset,
}

type Mood = Arc<dyn Fn(&Request) -> Option<Wrong> + Send + Sync>;

#[derive(Clone)]
pub struct StandIn {
    pub port: u16,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    mood: Arc<Mutex<Mood>>,
}

impl StandIn {
    pub async fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn {
            port: listener.local_addr().unwrap().port(),
            objects: Arc::default(),
            mood: Arc::new(Mutex::new(Arc::new(|_| None))),
        };
        let server = stand_in.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = server.clone();
                // A client that goes away is no failure of the test.
                tokio::spawn(async move { drop(server.serve(socket).await) });
            }
        });
        stand_in
    }

    /// From now on these requests are answered wrongly.
    pub fn answers(&self, mood: impl Fn(&Request) -> Option<Wrong> + Send + Sync + 'static) {
        *self.mood.lock().unwrap() = Arc::new(mood);
    }

    pub fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        self.objects.lock().unwrap().insert(key.into(), body.into());
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn options(&self) -> Value {
        StandIn::options_at(&format!("http://127.0.0.1:{}", self.port))
    }

    pub fn options_at(endpoint: &str) -> Value {
        json!({"batching": {"linger": 0}, "delta": {"storage": {
            "aws_endpoint_url": endpoint,
            "aws_allow_http": "true",
            "aws_region": "us-east-1",
            "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "aws_secret_access_key": "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY",
        }}})
    }

    async fn serve(&self, mut socket: TcpStream) -> io::Result<()> {
        loop {
            let request = read(&mut socket).await?;
            let mood = Arc::clone(&self.mood.lock().unwrap());
            let wrong = mood(&request);
            let (status, headers, mut body) = match &wrong {
                Some(Wrong::Reset) => return Ok(()),
                Some(Wrong::Status(status, headers, body)) => {
                    (*status, headers.to_string(), body.as_bytes().to_vec())
                }
                _ => self.answer(&request),
            };
            if matches!(wrong, Some(Wrong::Garbage)) {
                body = b"<html>welcome to the hotel's network".to_vec();
            }
            let length = body.len();
            if matches!(wrong, Some(Wrong::Cut)) {
                body.truncate(length / 2);
            }
            let head = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            if request.kind != Kind::Head {
                socket.write_all(&body).await?;
            }
            if matches!(wrong, Some(Wrong::Cut)) {
                return Ok(());
            }
        }
    }

    fn answer(&self, request: &Request) -> (u16, String, Vec<u8>) {
        let mut objects = self.objects.lock().unwrap();
        let xml = |status, code: &str| {
            (
                status,
                String::new(),
                format!("<Error><Code>{code}</Code></Error>").into_bytes(),
            )
        };
        let stamp = "etag: \"e\"\r\nlast-modified: Sun, 29 Nov 2026 00:00:00 GMT\r\n";
        match request.kind {
            Kind::List => (200, String::new(), listing(&objects, &request.query).into_bytes()),
            Kind::Put => {
                if request.headers.contains_key("if-none-match") && objects.contains_key(&request.key) {
                    return xml(412, "PreconditionFailed");
                }
                objects.insert(request.key.clone(), request.body.clone());
                (200, stamp.into(), Vec::new())
            }
            Kind::Delete => {
                objects.remove(&request.key);
                (204, String::new(), Vec::new())
            }
            Kind::Get | Kind::Head => match objects.get(&request.key) {
                None => xml(404, "NoSuchKey"),
                Some(body) => match request
                    .headers
                    .get("range")
                    .and_then(|range| range_of(range, body.len()))
                {
                    Some((from, to)) => {
                        let range =
                            format!("{stamp}content-range: bytes {from}-{}/{}\r\n", to - 1, body.len());
                        (206, range, body[from..to].to_vec())
                    }
                    None => (200, stamp.into(), body.clone()),
                },
            },
        }
    }
}

fn range_of(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        return Some((length - to.parse::<usize>().ok()?.min(length), length));
    }
    let to = to.parse::<usize>().map_or(length, |to| (to + 1).min(length));
    Some((from.parse().ok()?, to))
}

fn listing(objects: &BTreeMap<String, Vec<u8>>, query: &BTreeMap<String, String>) -> String {
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let after = query.get("start-after").cloned().unwrap_or_default();
    let delimiter = query.get("delimiter").filter(|delimiter| !delimiter.is_empty());
    let mut found = String::from("<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>");
    let mut folders = Vec::new();
    for (key, body) in objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix) && **key > after)
    {
        match delimiter.and_then(|delimiter| key[prefix.len()..].find(delimiter.as_str())) {
            Some(end) => folders.push(key[..=prefix.len() + end].to_string()),
            None => {
                let size = body.len();
                write!(found, "<Contents><Key>{key}</Key><LastModified>2026-11-29T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>{size}</Size></Contents>").unwrap();
            }
        }
    }
    folders.dedup();
    for folder in folders {
        write!(
            found,
            "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
        )
        .unwrap();
    }
    found + "</ListBucketResult>"
}

async fn read(socket: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
        if head == [0x16] {
            // TLS, which is not spoken here; servers of HTTP say so in their own words.
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await?;
            return Err(ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8(head).map_err(|_| ErrorKind::InvalidData)?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    let url = url::Url::parse(&format!("http://h{target}")).unwrap();
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let path = url.path().trim_start_matches('/');
    // The bucket is the first part of the path.
    let key = path.split_once('/').map(|(_, key)| key).unwrap_or_default();
    let kind = match method {
        "GET" if query.contains_key("list-type") => Kind::List,
        "GET" => Kind::Get,
        "PUT" => Kind::Put,
        "HEAD" => Kind::Head,
        "DELETE" => Kind::Delete,
        other => panic!("{other} is not played"),
    };
    Ok(Request {
        kind,
        key: key.replace("%3D", "=").replace("%20", " "),
        query,
        headers,
        body,
    })
}
