//! The emulator object of `specs/boundary.md`.
//!
//! It holds no memory of JavaScript, so the end of an environment need not wait for it: the emulator is told
//! to stop, and goes on by itself to commit what it has, for as long as there is a process.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::{FnArgs, Function, Unknown};
use napi::{Env, JsValue};
use napi_derive::napi;
use serde_json::{Value, json};

use super::environment::{self, Ends, Hook};
use super::event_queue::{EventQueue, EventReceiver};
use super::events::JsEvent;
use super::{spawn, thrown};
use crate::emulator::{Emulator, EmulatorConfig, EmulatorObserver, Fault};
use crate::error::{Code, Error, Result};

#[napi]
pub struct NativeEmulator {
    core: Arc<EmulatorCore>,
    receiver: Rc<EventReceiver>,
    config: RefCell<Option<EmulatorConfig>>,
    observer: EmulatorObserver,
    hook: Cell<Option<Hook>>,
}

/// What the threads share.
struct EmulatorCore {
    queue: Arc<EventQueue>,
    lifecycle: Mutex<EmulatorLifecycle>,
}

/// Where the emulator stands on its way from made to gone.
#[derive(Default)]
struct EmulatorLifecycle {
    emulator: Option<Arc<Emulator>>,
    ended: bool,
}

#[napi]
impl NativeEmulator {
    /// Validates the options; binds nothing. Events go to JavaScript only if `listening`.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        options: String,
        listening: bool,
        #[napi(ts_arg_type = "(numbers: Float64Array, details: string) => void")] on_events: Function<
            '_,
            FnArgs<(Unknown<'static>, String)>,
            (),
        >,
    ) -> napi::Result<Self> {
        let options = parsed(&options, "options").map_err(|error| thrown(&error))?;
        let config = EmulatorConfig::from_json(&options).map_err(|error| thrown(&error))?;
        // SAFETY: both are arguments of the call under way, on the JavaScript thread.
        let receiver = unsafe { EventReceiver::open(env.raw(), on_events.raw())? };
        let queue = receiver.queue().clone();
        let events = queue.clone();
        let observer = match listening {
            false => EmulatorObserver::default(),
            true => EmulatorObserver::new(move |event| {
                let mut told = serde_json::to_value(event).unwrap_or_else(|_| json!({}));
                told["line"] = Value::String(event.to_string());
                events.post(JsEvent::Happened(told));
            }),
        };
        let core = Arc::new(EmulatorCore {
            queue,
            lifecycle: Mutex::default(),
        });
        // SAFETY: the JavaScript thread, in a call.
        let hook = unsafe { environment::watch(env.raw(), core.clone()) };
        Ok(NativeEmulator {
            core,
            receiver,
            config: RefCell::new(Some(config)),
            observer,
            hook: Cell::new(Some(hook)),
        })
    }

    /// Once. Replied to with `{ base, unityCatalogUrl, ca }`: a table's name behind `base` is its target.
    #[napi(catch_unwind)]
    pub fn start(&self, env: Env, operation: f64) {
        let config = self.config.borrow_mut().take();
        let observer = self.observer.clone();
        let core = self.core.clone();
        self.reply(env, operation, async move {
            let config = config.ok_or_else(|| closed("the emulator was started before"))?;
            let emulator = Arc::new(Emulator::start_observed(config, observer).await?);
            let facts = json!({
                "base": emulator.url(""),
                "unityCatalogUrl": emulator.unity_catalog_url(),
                "ca": emulator.ca_pem(),
            });
            let ended = {
                let mut lifecycle = core.lifecycle();
                lifecycle.emulator = Some(emulator.clone());
                lifecycle.ended
            };
            if ended {
                emulator.shutdown().await?;
                return Err(closed("the emulator was closed while it was started"));
            }
            Ok(facts)
        });
    }

    /// Lets something go wrong from now on: a fault as JSON, text or an object.
    #[napi(catch_unwind)]
    pub fn add_fault(&self, fault: String) -> napi::Result<()> {
        let fault = parsed(&fault, "fault").and_then(|given| match &given {
            Value::String(text) => text.parse::<Fault>(),
            other => Fault::from_json(other),
        });
        let add = |fault| self.core.emulator().map(|emulator| emulator.add_fault(fault));
        fault.and_then(add).map_err(|error| thrown(&error))
    }

    /// Replied to with what it did so far.
    #[napi(catch_unwind)]
    pub fn summary(&self, env: Env, operation: f64) {
        let emulator = self.core.emulator();
        self.reply(
            env,
            operation,
            async move { Ok(json!(emulator?.summary().await)) },
        );
    }

    /// Replied to with null once every table is committed and the port is given back.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, operation: f64) {
        let emulator = self.core.emulator();
        self.reply(env, operation, async move {
            emulator?.shutdown().await?;
            Ok(Value::Null)
        });
    }

    /// After an event *more*, in a later turn of the event loop: JavaScript takes the rest.
    #[napi(catch_unwind)]
    pub fn resume(&self) {
        self.receiver.queue().resume();
    }

    /// After `close` was replied to, or `start` failed: lets go of the event callback.
    #[napi(catch_unwind)]
    pub fn dispose(&self, env: Env) {
        let Some(hook) = self.hook.take() else { return };
        self.core.end();
        // SAFETY: the JavaScript thread, in a call; the hook was there, so it has neither run nor been taken off.
        unsafe {
            self.receiver.close(env.raw());
            environment::unwatch(env.raw(), hook);
        }
    }

    /// An operation that JavaScript waits for.
    fn reply(&self, env: Env, operation: f64, work: impl Future<Output = Result<Value>> + Send + 'static) {
        // SAFETY: the JavaScript thread, in a call.
        unsafe { self.receiver.expect(env.raw(), 1) };
        let queue = self.core.queue.clone();
        spawn(async move {
            queue.post(match work.await {
                Ok(value) => JsEvent::Replied { operation, value },
                Err(error) => JsEvent::Answered {
                    operation,
                    error: Some(error),
                },
            });
        });
    }
}

impl EmulatorCore {
    fn emulator(&self) -> Result<Arc<Emulator>> {
        let emulator = self.lifecycle().emulator.clone();
        emulator.ok_or_else(|| closed("the emulator is not running"))
    }

    fn lifecycle(&self) -> MutexGuard<'_, EmulatorLifecycle> {
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends for EmulatorCore {
    fn end(&self) {
        let emulator = {
            let mut lifecycle = self.lifecycle();
            lifecycle.ended = true;
            lifecycle.emulator.take()
        };
        if let Some(emulator) = emulator {
            // After `close` there is nothing left to do.
            spawn(async move {
                let _ = emulator.shutdown().await;
            });
        }
    }
}

fn parsed(json: &str, what: &str) -> Result<Value> {
    serde_json::from_str(json)
        .map_err(|error| Error::new(Code::ConfigInvalid, format!("{what}: no JSON")).caused_by(&error))
}

fn closed(text: &str) -> Error {
    Error::new(Code::Closed, text).during("emulator")
}
