//! A Flight server that keeps what it is sent and fails when told to, and a proxy that cuts lines.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::*;
use arrow_ingest::config::Config;
use arrow_ingest::destination::flight::Flight;
use arrow_ingest::destination::{
    Acknowledgement, Acknowledgements, Destination as _, Epochs, Opening, Session, Write,
};
use arrow_ingest::error::{Error, Result};
use async_trait::async_trait;
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use std::pin::Pin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// What the server does with a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    #[default]
    Nothing,
    EveryPart,
    /// As specs/flight-ack.md has it.
    Cumulative,
    /// One answer too few, or too many.
    Short,
    Long,
    Gibberish,
}

/// What the server has and what it is to do.
#[derive(Default)]
pub struct World {
    pub answers: Answers,
    /// Batches of puts that ended well, in order; with cumulative answers, of all parts.
    pub kept: Vec<RecordBatch>,
    pub descriptors: Vec<FlightDescriptor>,
    pub headers: Vec<tonic::metadata::MetadataMap>,
    pub actions: Vec<String>,
    pub parts: usize,
    /// Verdicts for the next puts, spoken when the client has ended the stream.
    pub at_end: VecDeque<Status>,
    /// Spoken after so many parts of the next put.
    pub after_parts: VecDeque<(usize, Status)>,
    /// Spoken before anything is read.
    pub at_once: VecDeque<Status>,
    /// What `get_schema` says.
    pub schema_says: Option<Status>,
    /// Or tells: what is to be a schema.
    pub schema: Option<Vec<u8>>,
    /// What a question for tables is answered with.
    pub tables: Option<Vec<FlightData>>,
    /// What was asked of them.
    pub questions: Vec<FlightDescriptor>,
    /// Rows with these values make a put invalid.
    pub poison: Vec<i64>,
    /// Of cumulative producers: epoch, sequence, rows.
    pub durable: HashMap<String, (u64, u64, u64)>,
    /// How a handshake answers to the right password.
    pub login: Option<Login>,
    pub transactions: bool,
    pub commit_fails: bool,
    /// The action that is never answered.
    pub hangs_at: Option<&'static str>,
    /// What to answer to the next questions for a transaction.
    pub begin_says: VecDeque<Result<Option<Vec<u8>>, Status>>,
    pub slow: Option<Duration>,
    pub silent: bool,
    /// Answers that are still given.
    pub silent_after: Option<usize>,
    /// What a put is answered with, the last of it again and again; it is read, and never ended.
    pub repeats: Vec<Vec<u8>>,
}

impl World {
    fn falls_silent(&mut self) -> bool {
        match &mut self.silent_after {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => self.silent,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    Header,
    Token,
    EveryCall,
}

pub struct Server {
    pub address: SocketAddr,
    pub world: Arc<Mutex<World>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(answers: Answers) -> Server {
        Server::with(answers, |server| server).await
    }

    pub async fn with(
        answers: Answers,
        configure: impl FnOnce(tonic::transport::Server) -> tonic::transport::Server,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World {
            answers,
            ..World::default()
        }));
        let service = FlightServiceServer::new(Service {
            world: Arc::clone(&world),
        });
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let router = configure(tonic::transport::Server::builder()).add_service(service);
        let task = tokio::spawn(async move {
            let _ = router.serve_with_incoming(incoming).await;
        });
        Server { address, world, task }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn target(&self) -> String {
        format!("grpc://{}/a/b", self.address)
    }

    pub fn values(&self) -> Vec<i64> {
        self.world().kept.iter().flat_map(values).collect()
    }

    pub async fn connect(&self, options: Value) -> Flight {
        Flight::connect(&self.target(), &config(options)).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn config(options: Value) -> Config {
    Config::from_json(&options).unwrap()
}

pub fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

pub fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// A session without a transmitter around it.
pub struct Writer {
    pub session: Box<dyn Session>,
    pub landed: Option<u64>,
    pub conclusive: bool,
    pub heard: UnboundedReceiver<Acknowledgement>,
}

impl Writer {
    pub async fn open(flight: &Flight, schema: SchemaRef) -> Result<Writer> {
        Writer::resume(flight, schema, Uuid::new_v4(), None).await
    }

    pub async fn resume(
        flight: &Flight,
        schema: SchemaRef,
        producer: Uuid,
        resume_from: Option<u64>,
    ) -> Result<Writer> {
        Writer::start(flight, schema, producer, resume_from, None).await
    }

    /// The first session of a process that has a spool.
    pub async fn spooled(flight: &Flight, schema: SchemaRef, producer: Uuid) -> Result<Writer> {
        Writer::start(flight, schema, producer, Some(0), Some(Arc::new(OneOpening))).await
    }

    async fn start(
        flight: &Flight,
        schema: SchemaRef,
        producer: Uuid,
        resume_from: Option<u64>,
        epochs: Option<Arc<dyn Epochs>>,
    ) -> Result<Writer> {
        let (acknowledgements, heard) = Acknowledgements::channel();
        let opened = flight
            .open(Opening {
                epochs,
                schema,
                producer,
                resume_from,
                acknowledgements,
            })
            .await?;
        Ok(Writer {
            session: opened.session,
            landed: opened.landed.last().map(|last| match last {
                Acknowledgement::Through { id, .. } => *id,
                other => panic!("{other:?}"),
            }),
            conclusive: opened.conclusive,
            heard,
        })
    }

    pub async fn write(&mut self, id: u64, batches: Vec<RecordBatch>) -> Result<()> {
        self.session.write(write(id, batches)).await
    }

    /// Waits for the next word.
    pub async fn hear(&mut self) -> String {
        let heard = tokio::time::timeout(Duration::from_secs(20), self.heard.recv()).await;
        said(heard.expect("nothing was said").expect("the session is gone"))
    }

    /// What was said and not heard.
    pub fn said(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(acknowledgement) = self.heard.try_recv() {
            all.push(said(acknowledgement));
        }
        all
    }

    pub async fn broken(&mut self) -> Error {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(20), self.heard.recv()).await;
            if let Acknowledgement::Broken { error } =
                heard.expect("nothing was said").expect("the session is gone")
            {
                return error;
            }
        }
    }
}

/// A spool that nobody has copied.
struct OneOpening;

#[async_trait]
impl Epochs for OneOpening {
    async fn opening(&self) -> Result<u64> {
        Ok(1)
    }

    async fn confirm(&self, _: Option<u64>) -> Result<u64> {
        Ok(1)
    }

    fn written(&self) -> u64 {
        1_000
    }

    fn forgotten(&self) {}
}

/// Rows of a log, from its first on.
pub fn spooled(batch: RecordBatch) -> Arc<Write> {
    let rows = batch.num_rows() as u64;
    let Write { bytes, batches, .. } = Arc::into_inner(write(rows, vec![batch])).unwrap();
    Arc::new(Write {
        id: rows,
        rows: rows as usize,
        bytes,
        batches,
        positions: std::iter::once(0..rows).collect(),
    })
}

pub fn write(id: u64, batches: Vec<RecordBatch>) -> Arc<Write> {
    Arc::new(Write {
        positions: Vec::new(),
        id,
        rows: batches.iter().map(RecordBatch::num_rows).sum(),
        bytes: batches.iter().map(RecordBatch::get_array_memory_size).sum(),
        batches,
    })
}

fn said(acknowledgement: Acknowledgement) -> String {
    match acknowledgement {
        Acknowledgement::Through { id, .. } => format!("through {id}"),
        Acknowledgement::Partly { id, rows } => format!("{rows} of {id}"),
        Acknowledgement::Refused { id, rejections, .. } => {
            let rows: Vec<u64> = rejections.iter().map(|rejection| rejection.row).collect();
            format!("{id} but {rows:?}")
        }
        Acknowledgement::Broken { error } => format!("broken: {error}"),
        other => format!("{other:?}"),
    }
}

#[derive(Clone)]
struct Service {
    world: Arc<Mutex<World>>,
}

fn answered(
    receiver: UnboundedReceiver<Result<PutResult, Status>>,
) -> impl Stream<Item = Result<PutResult, Status>> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|answer| (answer, receiver))
    })
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn admit(&self, metadata: &tonic::metadata::MetadataMap) -> Result<(), Status> {
        let mut world = self.world();
        world.headers.push(metadata.clone());
        let Some(login) = world.login else {
            return Ok(());
        };
        let good = match login {
            Login::Header => metadata
                .get("authorization")
                .is_some_and(|value| value == "Bearer t0ken"),
            Login::Token => metadata
                .get_bin("auth-token-bin")
                .is_some_and(|value| value.to_bytes().unwrap().as_ref() == b"t0ken"),
            Login::EveryCall => metadata
                .get("authorization")
                .is_some_and(|value| value == "Basic dTpzZWNyZXQ="),
        };
        good.then_some(())
            .ok_or_else(|| Status::unauthenticated("who are you"))
    }

    /// One part of a put. Returns what to answer.
    fn take(&self, put: &mut Put, batch: RecordBatch, metadata: &[u8]) -> Result<Vec<Vec<u8>>, Status> {
        let mut world = self.world();
        let poisoned =
            !world.poison.is_empty() && values(&batch).iter().any(|value| world.poison.contains(value));
        if poisoned {
            return Err(Status::invalid_argument("a row is poisoned"));
        }
        if world.answers == Answers::Cumulative {
            let said: Value = serde_json::from_slice(metadata).unwrap();
            let number = |name: &str| said[name].as_u64().unwrap();
            let producer = said["producer"].as_str().unwrap().to_string();
            let durable = world.durable.entry(producer).or_default();
            if number("epoch") < durable.0 {
                return Err(Status::aborted("a newer session of this producer is here"));
            }
            durable.0 = number("epoch");
            let at = (number("sequence"), number("through"));
            let mut keep = false;
            if batch.num_rows() > 0 && at > (durable.1, durable.2) {
                (durable.1, durable.2) = at;
                keep = true;
            }
            let answer = format!(r#"{{"v":1,"sequence":{},"through":{}}}"#, durable.1, durable.2);
            if keep {
                world.kept.push(batch);
                world.parts += 1;
            }
            return Ok(vec![answer.into_bytes()]);
        }
        put.batches.push(batch);
        world.parts += 1;
        Ok(match world.answers {
            Answers::Nothing | Answers::Cumulative => Vec::new(),
            Answers::EveryPart => {
                let last = put.batches.pop().unwrap();
                world.kept.push(last);
                vec![Vec::new()]
            }
            Answers::Short if put.batches.len() > 1 => Vec::new(),
            Answers::Short => vec![Vec::new()],
            Answers::Long => vec![Vec::new(), Vec::new()],
            Answers::Gibberish => vec![b"thanks".to_vec()],
        })
    }
}

#[derive(Default)]
struct Put {
    batches: Vec<RecordBatch>,
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;
    type DoExchangeStream = Answer<FlightData>;

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        self.admit(request.metadata())?;
        if let Some(status) = self.world().at_once.pop_front() {
            return Err(status);
        }
        let limit = self.world().after_parts.pop_front();
        let service = self.clone();
        let mut input = request.into_inner();
        let (answers, receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut repeats: VecDeque<Vec<u8>> = self.world().repeats.clone().into();
        if !repeats.is_empty() {
            tokio::spawn(async move {
                let mut next = tokio::time::interval(Duration::from_millis(50));
                loop {
                    let app_metadata = match repeats.len() {
                        1 => repeats[0].clone(),
                        _ => repeats.pop_front().unwrap_or_default(),
                    };
                    let answer = PutResult {
                        app_metadata: app_metadata.into(),
                    };
                    if answers.send(Ok(answer)).is_err() {
                        return;
                    }
                    next.tick().await;
                    while let Some(Ok(Some(_))) = input.message().now_or_never() {}
                }
            });
            return Ok(Response::new(Box::pin(answered(receiver))));
        }
        tokio::spawn(async move {
            let verdict = async {
                let first = input
                    .message()
                    .await?
                    .ok_or_else(|| Status::internal("no schema"))?;
                let descriptor = first.flight_descriptor.clone().unwrap_or_default();
                service.world().descriptors.push(descriptor);
                let all = futures::stream::iter([Ok(first)])
                    .chain(input)
                    .map_err(|status| FlightError::Tonic(Box::new(status)));
                let mut decoder = FlightDataDecoder::new(all);
                let mut put = Put::default();
                let mut parts = 0;
                while let Some(data) = decoder.try_next().await.map_err(|error| match error {
                    FlightError::Tonic(status) => *status,
                    other => Status::internal(other.to_string()),
                })? {
                    let slow = service.world().slow;
                    if let Some(pause) = slow {
                        tokio::time::sleep(pause).await;
                    }
                    if let DecodedPayload::RecordBatch(batch) = data.payload {
                        for answer in service.take(&mut put, batch, &data.inner.app_metadata)? {
                            let silent = service.world().falls_silent();
                            if !silent {
                                let _ = answers.send(Ok(PutResult {
                                    app_metadata: answer.into(),
                                }));
                            }
                        }
                        parts += 1;
                    }
                    if let Some((most, status)) = &limit
                        && parts >= *most
                    {
                        return Err(status.clone());
                    }
                }
                let mut world = service.world();
                if let Some(status) = world.at_end.pop_front() {
                    return Err(status);
                }
                world.kept.append(&mut put.batches);
                Ok(())
            };
            if let Err(status) = verdict.await {
                let _ = answers.send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(answered(receiver))))
    }

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let login = self.world().login;
        let login = login.ok_or_else(|| Status::unimplemented("no handshake"))?;
        let basic = request.metadata().get("authorization").cloned();
        let hello = request.into_inner().message().await?.unwrap();
        let auth: BasicAuth = prost::Message::decode(hello.payload).unwrap();
        if auth.password != "secret" || basic.is_none_or(|basic| basic != "Basic dTpzZWNyZXQ=") {
            return Err(Status::unauthenticated(format!(
                "wrong password {}",
                auth.password
            )));
        }
        let payload = match login {
            Login::Token => b"t0ken".to_vec(),
            Login::EveryCall => return Err(Status::unimplemented("no handshake")),
            Login::Header => Vec::new(),
        };
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: payload.into(),
        };
        let stream: Self::HandshakeStream = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(stream);
        if login == Login::Header {
            response
                .metadata_mut()
                .insert("authorization", "Bearer t0ken".parse().unwrap());
        }
        Ok(response)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        self.admit(request.metadata())?;
        let silent = self.world().silent;
        if silent {
            std::future::pending::<()>().await;
        }
        if let Some(schema) = self.world().schema.clone() {
            let schema = schema.into();
            return Ok(Response::new(SchemaResult { schema }));
        }
        let says = self.world().schema_says.clone();
        Err(says.unwrap_or_else(|| Status::unimplemented("no schemas")))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let action = request.into_inner();
        if self.world().hangs_at == Some(action.r#type.as_str()) {
            return std::future::pending().await;
        }
        let mut world = self.world();
        if !world.transactions {
            return Err(Status::unimplemented("no transactions"));
        }
        let rollback = {
            use arrow_flight::sql::{ActionEndTransactionRequest, Any, EndTransaction};
            let any = <Any as prost::Message>::decode(action.body.clone()).unwrap_or_default();
            let end: Option<ActionEndTransactionRequest> = any.unpack().ok().flatten();
            end.is_some_and(|end| end.action == i32::from(EndTransaction::Rollback))
        };
        let suffix = if rollback { " rollback" } else { "" };
        world.actions.push(format!("{}{suffix}", action.r#type));
        if action.r#type == "BeginTransaction"
            && let Some(says) = world.begin_says.pop_front()
        {
            let answers = says
                .transpose()
                .map(|says| says.map(|body| arrow_flight::Result { body: body.into() }));
            return Ok(Response::new(Box::pin(futures::stream::iter(answers))));
        }
        let answers = if action.r#type == "BeginTransaction" {
            use arrow_flight::sql::{ActionBeginTransactionResult, ProstMessageExt as _};
            let begun = ActionBeginTransactionResult {
                transaction_id: b"tx1".to_vec().into(),
            };
            vec![Ok(arrow_flight::Result {
                body: prost::Message::encode_to_vec(&begun.as_any()).into(),
            })]
        } else if world.commit_fails {
            return Err(Status::unavailable("lost in commit"));
        } else {
            Vec::new()
        };
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let mut world = self.world();
        world.questions.push(request.into_inner());
        match &world.schema_says {
            Some(status) => Err(status.clone()),
            None if world.tables.is_none() => Err(Status::unimplemented("")),
            None if world.silent => Ok(Response::new(FlightInfo::new())),
            None => {
                let endpoint = FlightEndpoint::new().with_ticket(Ticket::new("tables"));
                Ok(Response::new(FlightInfo::new().with_endpoint(endpoint)))
            }
        }
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let tables = self.world().tables.clone().unwrap_or_default();
        Ok(Response::new(futures::stream::iter(tables).map(Ok).boxed()))
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A line to a server that can be cut.
pub struct Proxy {
    pub address: SocketAddr,
    pub line: Arc<Line>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub struct Line {
    /// Bytes towards the server after which the line is cut; 0 never.
    pub cut_after: AtomicUsize,
    /// Bytes towards the client after which the line is cut; 0 never.
    pub cut_answers_after: AtomicUsize,
    pub stalled: AtomicBool,
    pub refuse: AtomicBool,
    pub connections: AtomicUsize,
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line: Arc<Line> = Arc::default();
        let shared = Arc::clone(&line);
        let task = tokio::spawn(async move {
            let mut lines = tokio::task::JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                if shared.refuse.load(Ordering::SeqCst) {
                    let _ = client.set_zero_linger();
                    continue;
                }
                lines.spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Proxy { address, line, task }
    }

    pub fn target(&self) -> String {
        format!("grpc://{}/a/b", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, line: Arc<Line>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Whichever way is cut first, both are.
    tokio::select! {
        () = pump(from_client, to_server, &line, &line.cut_after) => {}
        () = pump(from_server, to_client, &line, &line.cut_answers_after) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    line: &Line,
    cut: &AtomicUsize,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        while line.stalled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let Ok(count @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        let left = cut.load(Ordering::SeqCst);
        if left > 0 && left <= count {
            // Once: the next connection is to get through.
            cut.store(0, Ordering::SeqCst);
            let _ = to.write_all(&bytes[..left / 2]).await;
            return;
        }
        if left > 0 {
            cut.fetch_sub(count, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
