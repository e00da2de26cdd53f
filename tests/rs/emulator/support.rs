//! An emulator with a lake of its own, the official client in front of it, and a reader behind it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow_ingest::emulator::{Emulator, EmulatorConfig, EmulatorEvent, EmulatorObserver, Fault};
use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{
    HeadersProvider, StreamBuilder, TlsConfig, ZerobusArrowStream, ZerobusResult, ZerobusSdk,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

pub const TABLE: &str = "main.test.events";

pub struct Rig {
    pub emulator: Emulator,
    pub lake: tempfile::TempDir,
    events: Arc<Mutex<Vec<EmulatorEvent>>>,
}

impl Rig {
    /// An emulator with these options beside a lake, a token and a quick commit.
    pub async fn new(options: Value) -> Rig {
        let lake = tempfile::tempdir().unwrap();
        let mut all = json!({ "lake": lake.path(), "tokens": ["given-token"], "commitInterval": "20ms" });
        for (name, value) in options.as_object().unwrap() {
            all[name] = value.clone();
        }
        let events: Arc<Mutex<Vec<EmulatorEvent>>> = Arc::default();
        let seen = events.clone();
        let observer = EmulatorObserver::new(move |event| {
            assert!(!event.to_string().contains("given-token"));
            seen.lock().unwrap().push(event.clone());
        });
        let config = EmulatorConfig::from_json(&all).unwrap();
        let emulator = Emulator::start_observed(config, observer).await.unwrap();
        Rig {
            emulator,
            lake,
            events,
        }
    }

    pub async fn with_fault(fault: &str) -> Rig {
        let rig = Rig::new(json!({})).await;
        rig.fault(fault);
        rig
    }

    pub fn fault(&self, text: &str) {
        self.emulator.add_fault(text.parse::<Fault>().unwrap());
    }

    pub fn events(&self) -> Vec<EmulatorEvent> {
        self.events.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.events().iter().map(EmulatorEvent::to_string).collect()
    }

    /// The official client, as its users make it.
    pub fn sdk(&self) -> ZerobusSdk {
        let endpoint = match self.emulator.ca_pem() {
            Some(_) => format!("https://localhost:{}", self.emulator.address().port()),
            None => format!("http://{}", self.emulator.address()),
        };
        ZerobusSdk::builder()
            .endpoint(endpoint)
            // With TLS too: the official client has no option for the authority of this endpoint.
            .unity_catalog_url(format!("http://{}", self.emulator.address()))
            .tls_config(Arc::new(Tls(self.emulator.ca_pem().map(str::to_string))))
            // A proxy in the environment is for others than this machine.
            .connector_factory(Arc::new(|_| None))
            .build()
            .unwrap()
    }

    /// A stream as its defaults have it, but for quick retries.
    pub async fn stream(&self, schema: &SchemaRef) -> ZerobusResult<ZerobusArrowStream> {
        self.stream_with(schema, |builder| builder).await
    }

    pub async fn stream_with(
        &self,
        schema: &SchemaRef,
        with: impl for<'b> FnOnce(StreamBuilder<'b>) -> StreamBuilder<'b>,
    ) -> ZerobusResult<ZerobusArrowStream> {
        let sdk = self.sdk();
        let builder = sdk
            .stream_builder()
            .table(TABLE)
            .oauth("client", "secret")
            .arrow(schema.clone())
            .recovery_backoff_ms(10);
        with(builder).build_arrow().await
    }

    pub fn table(&self) -> PathBuf {
        self.lake.path().join(TABLE.replace('.', "/"))
    }

    /// The `id` column of all that is in the table, sorted.
    pub fn ids(&self) -> Vec<i64> {
        let mut ids = Vec::new();
        for batch in read(&self.table()) {
            ids.extend(
                batch
                    .column_by_name("id")
                    .unwrap()
                    .as_primitive::<Int64Type>()
                    .values(),
            );
        }
        ids.sort_unstable();
        ids
    }
}

/// Rows of all files that the log of the table names.
pub fn read(table: &Path) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut logs: Vec<PathBuf> = std::fs::read_dir(table.join("_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    logs.sort();
    for log in logs {
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                let file = std::fs::File::open(table.join(path)).unwrap();
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
                batches.extend(reader.build().unwrap().map(|batch| batch.unwrap()));
            }
        }
    }
    batches
}

/// `id` and `text` for the numbers from `from` to `to`, as the official client's conversion types them.
pub fn rows(from: i64, to: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
        (from..to).map(|id| format!("row {id}")),
    ));
    let texts = cast(&texts, &DataType::LargeUtf8).unwrap();
    RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
}

pub fn all(to: i64) -> Vec<i64> {
    (0..to).collect()
}

/// Ingests `count` batches of 100 rows each, waits for all, closes.
pub async fn deliver(stream: &mut ZerobusArrowStream, count: i64) {
    for index in 0..count {
        stream
            .ingest_batch(rows(index * 100, index * 100 + 100))
            .await
            .unwrap();
    }
    stream.flush().await.unwrap();
    stream.close().await.unwrap();
}

/// No recovery: the first failure is the last.
pub fn once(builder: StreamBuilder<'_>) -> StreamBuilder<'_> {
    builder.recovery(false)
}

/// Plain text, or one authority.
struct Tls(Option<String>);

impl TlsConfig for Tls {
    fn configure_endpoint(&self, endpoint: Endpoint) -> ZerobusResult<Endpoint> {
        match &self.0 {
            None => Ok(endpoint),
            Some(pem) => {
                let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
                Ok(endpoint.tls_config(tls).unwrap())
            }
        }
    }
}

/// Headers that a caller makes.
pub struct Headers(pub &'static str);

#[async_trait]
impl HeadersProvider for Headers {
    async fn get_headers(&self) -> ZerobusResult<HashMap<&'static str, String>> {
        Ok(HashMap::from([("authorization", self.0.to_string())]))
    }
}
