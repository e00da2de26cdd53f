//! The client object of `specs/boundary.md`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use napi::bindgen_prelude::{Array, FnArgs, Function, Uint8Array, Unknown};
use napi::{Env, JsValue};
use napi_derive::napi;
use serde_json::json;

use super::environment::{self, Ends, Hook};
use super::event_queue::{EventQueue, EventReceiver};
use super::events::JsEvent;
use super::headers::Provider;
use super::retry::Predicate;
use super::schemas::{self, Schemas};
use super::{malformed, spawn, submit, thrown};
use crate::config::Config;
use crate::counters::Counters;
use crate::destination::{self, Destination};
use crate::error::{Code, Error, Result};
use crate::handoff::{PayloadUse, Pins, Pool, decode_schema};
use crate::transmitter::{Event, Log, Observer, Reply, Transmitter, open_spool};

/// Longer than any copy of a batch takes. After it, going on is all that is left.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Pool memory kept for the next batch once the last one is done.
const MAX_RETAINED_BYTES: usize = 64 << 20;

#[napi]
pub struct NativeClient {
    core: Arc<ClientCore>,
    receiver: Rc<EventReceiver>,
    schemas: RefCell<Schemas>,
    last_sequence: Cell<f64>,
    scratch: Cell<submit::Scratch>,
    hook: Cell<Option<Hook>>,
}

/// What the threads share.
pub struct ClientCore {
    target: String,
    config: Config,
    counters: Arc<Counters>,
    pool: Arc<Pool>,
    pins: Arc<Pins>,
    queue: Arc<EventQueue>,
    provider: Arc<Provider>,
    predicate: Arc<Predicate>,
    expected: Mutex<Option<SchemaRef>>,
    lifecycle: Mutex<ClientLifecycle>,
}

/// Where the client stands on its way from made to gone.
#[derive(Default)]
struct ClientLifecycle {
    destination: Option<Arc<dyn Destination>>,
    transmitter: Option<Arc<Transmitter>>,
    ended: bool,
}

#[napi]
impl NativeClient {
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        target: String,
        options: String,
        #[napi(ts_arg_type = "(numbers: Float64Array, details: string) => void")] on_events: Function<
            '_,
            FnArgs<(Unknown<'static>, String)>,
            (),
        >,
    ) -> napi::Result<Self> {
        let options = serde_json::from_str(&options).map_err(|error| {
            thrown(&Error::new(Code::ConfigInvalid, "options are no JSON").caused_by(&error))
        })?;
        let mut config = Config::from_json(&options).map_err(|error| thrown(&error))?;
        destination::validate(&target, &config).map_err(|error| thrown(&error))?;
        super::lines::begin();
        // SAFETY: both are arguments of the call under way, on the JavaScript thread.
        let receiver = unsafe { EventReceiver::open(env.raw(), on_events.raw())? };
        let queue = receiver.queue().clone();
        let released = queue.clone();
        let provider = Provider::new(queue.clone());
        if config.headers_asked {
            config.header_provider = Some(provider.clone());
        }
        let predicate = Predicate::new(queue.clone());
        if config.retry.asked {
            config.retry.predicate = Some(predicate.clone());
        }
        let core = Arc::new(ClientCore {
            target,
            counters: Arc::default(),
            pool: Pool::new(MAX_RETAINED_BYTES),
            pins: Pins::new(
                config.inflight.max_pinned_bytes,
                Box::new(move |id, bytes| released.pin_released(id, bytes)),
            ),
            config,
            queue,
            provider,
            predicate,
            expected: Mutex::default(),
            lifecycle: Mutex::default(),
        });
        // SAFETY: the JavaScript thread, in a call.
        let hook = unsafe { environment::watch(env.raw(), core.clone()) };
        Ok(NativeClient {
            core,
            receiver,
            schemas: RefCell::default(),
            last_sequence: Cell::new(0.0),
            scratch: Cell::default(),
            hook: Cell::new(Some(hook)),
        })
    }

    /// One attempt at reaching the destination. Answered by an event.
    #[napi(catch_unwind)]
    pub fn open(&self, env: Env, operation: f64) {
        let reply = self.operation(env, operation);
        let core = self.core.clone();
        spawn(async move {
            let result = core.open().await;
            if result
                .as_ref()
                .is_err_and(|error| error.code() == Code::Unauthenticated)
            {
                core.provider.refused();
            }
            reply.answer(result);
        });
    }

    /// Tries connection, credentials and table without writing. Answered by an event.
    #[napi(catch_unwind)]
    pub fn check(&self, env: Env, operation: f64) {
        let reply = self.operation(env, operation);
        let destination = self.core.lifecycle().destination.clone();
        spawn(async move {
            match destination {
                Some(destination) => reply.answer(destination.check().await),
                None => reply.answer(Err(not_open())),
            }
        });
    }

    /// What the destination says of the table's schema, asked anew, and kept in the spool. Answered by an event.
    #[napi(catch_unwind)]
    pub fn schema(&self, env: Env, operation: f64) {
        let reply = self.operation(env, operation);
        let (destination, transmitter) = {
            let lifecycle = self.core.lifecycle();
            (lifecycle.destination.clone(), lifecycle.transmitter.clone())
        };
        let queue = self.core.queue.clone();
        spawn(async move {
            let said = match destination {
                Some(destination) => destination.schema().await,
                None => Err(not_open()),
            };
            match said.and_then(|schema| schema.map(|schema| schemas::message(&schema)).transpose()) {
                Ok(schema) => {
                    if let (Some(schema), Some(transmitter)) = (&schema, transmitter)
                        && let Err(error) = transmitter.keep_schema(schema).await
                    {
                        queue.post(JsEvent::Transmitter(Event::Log(Log {
                            level: "warn",
                            message: "the table's schema is not kept in the spool".into(),
                            fields: json!({ "error": error.to_json() }),
                        })));
                    }
                    reply.forgo();
                    queue.post(JsEvent::Described { operation, schema });
                }
                Err(error) => reply.answer(Err(error)),
            }
        });
    }

    /// What the spool keeps of what `schema` was told last, by this client or an earlier one. Answered by an event.
    #[napi(catch_unwind)]
    pub fn kept_schema(&self, env: Env, operation: f64) {
        let reply = self.operation(env, operation);
        let transmitter = self.core.transmitter();
        let queue = self.core.queue.clone();
        spawn(async move {
            match transmitter {
                Ok(transmitter) => {
                    let schema = transmitter.kept_schema().await;
                    reply.forgo();
                    queue.post(JsEvent::Described { operation, schema });
                }
                Err(error) => reply.answer(Err(error)),
            }
        });
    }

    /// Somebody waits for the outcome of what was admitted before.
    #[napi(catch_unwind)]
    pub fn hurry(&self) {
        if let Ok(transmitter) = self.core.transmitter() {
            transmitter.hurry();
        }
    }

    /// After an event *more*, in a later turn of the event loop: JavaScript takes the rest.
    #[napi(catch_unwind)]
    pub fn resume(&self) {
        self.receiver.queue().resume();
    }

    /// Answered when everything admitted before is settled.
    #[napi(catch_unwind)]
    pub fn flush(&self, env: Env, operation: f64) {
        let reply = self.operation(env, operation);
        match self.core.transmitter() {
            Ok(transmitter) => transmitter.flush(reply),
            Err(error) => reply.answer(Err(error)),
        }
    }

    /// Answered when everything is settled and the destination let go of.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, operation: f64, deadline_ms: f64) {
        let reply = self.operation(env, operation);
        // NaN, negative and endless ones are the caller's way of saying "as long as it takes".
        let deadline = Duration::try_from_secs_f64(deadline_ms / 1e3).unwrap_or(Duration::MAX);
        match self.core.transmitter() {
            Ok(transmitter) => {
                // JavaScript tells those who wait by itself: it knows all of them.
                let void = transmitter.turn_away_waiting();
                // SAFETY: the JavaScript thread, in a call.
                unsafe { self.receiver.fulfil(env.raw(), void) };
                transmitter.close(deadline, reply);
            }
            Err(_) => reply.answer(Ok(())),
        }
    }

    /// After `close` was answered: lets go of the event callback, so that the client can be collected.
    #[napi(catch_unwind)]
    pub fn dispose(&self, env: Env) {
        if !self.core.end_within(Duration::ZERO) {
            return;
        }
        // SAFETY: the JavaScript thread, in a call.
        unsafe { self.receiver.close(env.raw()) };
        // A deadline may have passed while memory was read: then the hook still has to wait for it.
        if self.core.pins.count() == 0
            && let Some(hook) = self.hook.take()
        {
            // SAFETY: as above; `end_within` says yes once, so the hook has not run.
            unsafe { environment::unwatch(env.raw(), hook) };
        }
    }

    /// Takes an IPC stream that holds just a schema; returns its id.
    #[napi(catch_unwind)]
    pub fn register_schema(&self, message: &[u8]) -> napi::Result<u32> {
        let schema = decode_schema(message).map_err(|error| thrown(&error))?;
        Ok(self.schemas.borrow_mut().register(schema) as u32)
    }

    /// A number that `registerSchema` gave, and that no call to come has; deliveries that had it keep its schema.
    #[napi(catch_unwind)]
    pub fn forget_schema(&self, schema_id: u32) {
        self.schemas.borrow_mut().forget(schema_id as usize);
    }

    /// Before `open`: the schema that sessions will have, so that its mistakes are known then.
    #[napi(catch_unwind)]
    pub fn expect_schema(&self, schema_id: u32) -> napi::Result<()> {
        let schemas = self.schemas.borrow();
        let Some(schema) = schemas.get(schema_id as usize) else {
            return Err(thrown(&malformed(format!(
                "schema {schema_id} is not registered"
            ))));
        };
        *self.core.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some(schema.clone());
        Ok(())
    }

    /// Hands deliveries over. 0: admitted; n > 0: ticket n is queued and nothing was read.
    #[napi(catch_unwind)]
    pub fn submit(
        &self,
        env: Env,
        call: &[f64],
        buffers: napi::bindgen_prelude::Array<'_>,
    ) -> napi::Result<f64> {
        let transmitter = self.core.transmitter().map_err(|error| thrown(&error))?;
        let schemas = self.schemas.borrow();
        self.call_reader(env, &schemas)
            .run(&transmitter, call, buffers.raw())
            .map_err(|error| thrown(&error))
    }

    /// What the native side sees of the deliveries of a call, as one IPC stream for each batch: imported
    /// as for a destination that moves bytes, or as for one that computes on them. Nothing is sent. It
    /// blocks; it is there to hold the handoff to its promise, bit for bit.
    #[napi(catch_unwind, ts_return_type = "Uint8Array[]")]
    pub fn echo(
        &self,
        env: Env,
        call: &[f64],
        #[napi(ts_arg_type = "ArrayBuffer[]")] buffers: Array<'_>,
        computed: bool,
    ) -> napi::Result<Vec<Uint8Array>> {
        let schemas = self.schemas.borrow();
        let call_reader = self.call_reader(env, &schemas);
        let payload = if computed {
            PayloadUse::Computed
        } else {
            PayloadUse::Moved
        };
        let streams = call_reader
            .echo(call, buffers.raw(), payload)
            .map_err(|error| thrown(&error))?;
        Ok(streams.into_iter().map(Uint8Array::from).collect())
    }

    /// Takes back a ticket; whether there was one.
    #[napi(catch_unwind)]
    pub fn cancel(&self, env: Env, ticket: f64) -> bool {
        let Ok(transmitter) = self.core.transmitter() else {
            return false;
        };
        let found = transmitter.cancel(ticket as u64);
        if found {
            // SAFETY: the JavaScript thread, in a call.
            unsafe { self.receiver.fulfil(env.raw(), 1) };
        }
        found
    }

    /// The caller no longer waits for this delivery.
    #[napi(catch_unwind)]
    pub fn abort(&self, sequence: f64) {
        if let Ok(transmitter) = self.core.transmitter() {
            transmitter.abort(sequence as u64);
        }
    }

    /// The caller no longer waits for this delivery, and wants it delivered. Only with a spool.
    #[napi(catch_unwind)]
    pub fn leave(&self, sequence: f64) {
        if let Ok(transmitter) = self.core.transmitter() {
            transmitter.leave(sequence as u64);
        }
    }

    /// Keeps rows that were refused before they were Arrow values among the dead letters, as JSON. Answered by an
    /// event.
    #[napi(catch_unwind)]
    pub fn keep_refused(&self, env: Env, operation: f64, sequence: f64, rows: String) {
        let reply = self.operation(env, operation);
        match self.core.transmitter() {
            Ok(transmitter) => transmitter.keep_refused(sequence as u64, rows, reply),
            Err(error) => reply.answer(Err(error)),
        }
    }

    /// What rows are gathered by, as JSON: options as they are meant.
    #[napi(catch_unwind)]
    pub fn gathering(&self) -> String {
        let Config {
            batching,
            dead_letter,
            spool,
            ..
        } = &self.core.config;
        json!({
            "maxRows": batching.max_rows,
            "maxBytes": batching.max_bytes,
            "lingerMs": batching.linger.as_secs_f64() * 1e3,
            "deadLetters": dead_letter.is_some() || spool.is_some(),
        })
        .to_string()
    }

    /// The answer to an event *headers wanted*, as JSON; one that comes too late does nothing.
    #[napi(catch_unwind)]
    pub fn answer_headers(&self, request: f64, answer: String) {
        self.core.provider.answer(request as u64, &answer);
    }

    /// The answer to an event *retry asked*, as JSON; one that comes too late does nothing.
    #[napi(catch_unwind)]
    pub fn answer_retry(&self, request: f64, answer: String) {
        self.core.predicate.answer(request as u64, &answer);
    }

    /// Whether facts of each write are told, too.
    #[napi(catch_unwind)]
    pub fn follow(&self, writes: bool) {
        self.core.counters.followed.set(usize::from(writes));
    }

    /// What calls to a server carry from now on; an empty text takes it away.
    #[napi(catch_unwind)]
    pub fn trace(&self, parent: String, state: String) {
        self.core.config.trace.set(&parent, &state);
    }

    /// A snapshot of all numbers, as JSON.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> String {
        let core = &self.core;
        let counters = &core.counters;
        let transmitter = core.transmitter().ok();
        let in_flight = transmitter
            .as_ref()
            .map_or(0, |transmitter| transmitter.in_flight_bytes());
        let waiting = transmitter
            .as_ref()
            .map_or(0, |transmitter| transmitter.waiting());
        let pool = core.pool.stats();
        let spool = transmitter.as_ref().and_then(|transmitter| {
            let (stats, recovered) = (transmitter.spool()?, transmitter.recovered()?);
            let ms = |age: Option<Duration>| age.map(|age| age.as_millis() as u64);
            Some(json!({
                "bytes": stats.bytes,
                "rows": stats.rows,
                "oldestMs": ms(stats.oldest),
                "paused": counters.paused.get() == 1,
                "damagedBytes": counters.spool_damaged_bytes.get(),
                "recovered": {
                    "deliveries": recovered.left.deliveries,
                    "rows": recovered.left.rows,
                    "bytes": recovered.left.bytes,
                    "oldestMs": ms(stats.recovered_oldest),
                },
            }))
        });
        json!({
            "deliveries": {
                "admitted": counters.deliveries_admitted.get(),
                "unsettled": counters.unsettled.get(),
                "waiting": waiting,
                "acknowledged": counters.deliveries_acknowledged.get(),
                "partial": counters.deliveries_partial.get(),
                "failed": counters.deliveries_failed.get(),
                "unknown": counters.deliveries_unknown.get(),
                "spooled": counters.deliveries_spooled.get(),
            },
            "rows": {
                "admitted": counters.rows_admitted.get(),
                "accepted": counters.rows_accepted.get(),
                "rejected": counters.rows_rejected.get(),
            },
            "bytes": {
                "admitted": counters.bytes_admitted.get(),
                "accepted": counters.bytes_accepted.get(),
                "inFlight": in_flight,
                "budget": core.config.inflight.max_bytes,
            },
            "writes": {
                "sent": counters.writes_sent.get(),
                "acknowledged": counters.writes_acknowledged.get(),
                "refused": counters.writes_refused.get(),
                "inWindow": counters.window.get(),
            },
            "sessions": {
                "opened": counters.sessions_opened.get(),
                "broken": counters.sessions_broken.get(),
                "rotated": counters.sessions_rotated.get(),
            },
            "pinned": {
                "bytes": core.pins.bytes(),
                "peakBytes": core.pins.peak_bytes(),
                "limitBytes": core.config.inflight.max_pinned_bytes,
                "pins": core.pins.count(),
            },
            "pool": {
                "allocatedBytes": pool.allocated,
                "inUseBytes": pool.in_use,
                "peakBytes": pool.peak,
                "reused": pool.reused_count,
            },
            "handoff": {
                "buffersRealigned": counters.buffers_realigned.get(),
                "buffersCopiedForPinLimit": counters.buffers_copied_for_pin_limit.get(),
            },
            "deadLetters": {
                "kept": counters.dead_letters_kept.get(),
                "failed": counters.dead_letters_failed.get(),
                "filesRemoved": counters.dead_letter_files_removed.get(),
                "filesDamaged": counters.dead_letter_files_damaged.get(),
            },
            "capture": {
                "rowsWritten": counters.capture_rows_written.get(),
                "rowsDropped": counters.capture_rows_dropped.get(),
                "rowsFailed": counters.capture_rows_failed.get(),
                "filesRemoved": counters.capture_files_removed.get(),
            },
            "retry": {
                "strikes": counters.strikes.get(),
                "tries": counters.retries.get(),
                "pauses": counters.pauses.get(),
                "delayMs": counters.retry_delay_ms.get(),
            },
            "spool": spool,
        })
        .to_string()
    }

    fn call_reader<'a>(&'a self, env: Env, schemas: &'a Schemas) -> submit::CallReader<'a> {
        submit::CallReader {
            env: env.raw(),
            receiver: &self.receiver,
            pins: &self.core.pins,
            pool: &self.core.pool,
            schemas,
            last_sequence: &self.last_sequence,
            verify_payload: self.core.config.handoff.verify_payload,
            scratch: &self.scratch,
        }
    }

    /// An operation that JavaScript waits for; the reply posts its answer.
    fn operation(&self, env: Env, operation: f64) -> Reply {
        // SAFETY: the JavaScript thread, in a call.
        unsafe { self.receiver.expect(env.raw(), 1) };
        let queue = self.core.queue.clone();
        Reply::new(move |result| {
            queue.post(JsEvent::Answered {
                operation,
                error: result.err(),
            });
        })
    }
}

impl ClientCore {
    async fn open(&self) -> Result<()> {
        let spool = open_spool(&self.config, &self.target).await?;
        let reached = match spool {
            Some(_) => destination::connect_or_wait(&self.target, &self.config).await,
            None => {
                let connected = destination::connect(&self.target, &self.config).await;
                connected.map(|destination| (destination, None))
            }
        };
        let (destination, away) = match reached {
            Ok(reached) => reached,
            Err(error) => {
                // The next try would be told that somebody has it.
                if let Some(spool) = spool {
                    spool.close().await;
                }
                return Err(error);
            }
        };
        let queue = self.queue.clone();
        let observer: Observer = Arc::new(move |event: Event| queue.post(JsEvent::Transmitter(event)));
        if let Some(error) = away {
            observer(Event::Log(Log {
                level: "warn",
                message: "the destination is away: rows wait in the spool".into(),
                fields: json!({ "error": error.to_json() }),
            }));
        }
        let transmitter = Arc::new(Transmitter::start(
            destination.clone(),
            &self.config,
            self.pool.clone(),
            self.counters.clone(),
            observer,
            spool,
        ));
        let expected = self
            .expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(schema) = expected {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            transmitter.prepare(
                schema,
                Reply::new(move |result| {
                    let _ = sender.send(result);
                }),
            );
            let prepared = receiver.await.unwrap_or_else(|_| Err(not_open()));
            if prepared.is_err() {
                // Its spool is to be free when the caller hears of it.
                transmitter.close_now().await;
            }
            prepared?;
        }
        {
            let mut lifecycle = self.lifecycle();
            if !lifecycle.ended {
                lifecycle.destination = Some(destination);
                lifecycle.transmitter = Some(transmitter);
                return Ok(());
            }
        }
        transmitter.close_now().await;
        let text = "the client was closed while it was opened";
        Err(Error::new(Code::Closed, text))
    }

    /// Drops everything and waits until no thread reads pinned memory. Returns whether this call was
    /// the one that ended it.
    fn end_within(&self, limit: Duration) -> bool {
        let (first, transmitter) = {
            let mut lifecycle = self.lifecycle();
            lifecycle.destination = None;
            (
                !std::mem::replace(&mut lifecycle.ended, true),
                lifecycle.transmitter.take(),
            )
        };
        if let Some(transmitter) = transmitter {
            transmitter.terminate();
        }
        self.provider.end();
        self.predicate.end();
        if limit > Duration::ZERO {
            self.pins.wait_until_empty(limit);
        }
        first
    }

    fn transmitter(&self) -> Result<Arc<Transmitter>> {
        self.lifecycle().transmitter.clone().ok_or_else(not_open)
    }

    fn lifecycle(&self) -> std::sync::MutexGuard<'_, ClientLifecycle> {
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends for ClientCore {
    fn end(&self) {
        self.end_within(END_LIMIT);
    }
}

fn not_open() -> Error {
    Error::new(Code::Closed, "the client is not open")
}
