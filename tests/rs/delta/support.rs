//! A table in a temporary directory, and eyes of our own to look at it with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow_ingest::config::Config;
use arrow_ingest::destination::delta::Delta;
use arrow_ingest::destination::{
    Acknowledgement, Acknowledgements, Destination as _, Opened, Opening, Session, Write,
};
use arrow_ingest::error::{Error, Result};
use arrow_ingest::outcome::Position;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

pub struct Table {
    pub home: TempDir,
}

impl Table {
    pub fn new() -> Table {
        Table {
            home: TempDir::new().unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("table")
    }

    pub fn target(&self) -> String {
        format!("delta:{}", self.path().display())
    }

    pub async fn connect(&self, options: Value) -> Result<Delta> {
        Delta::connect(&self.target(), &config(options)).await
    }

    pub async fn writer(&self, batch: &RecordBatch, options: Value) -> Result<Writer> {
        Writer::open(&self.connect(options).await?, batch, Uuid::new_v4(), None).await
    }

    /// Writes these batches, one write each, and closes.
    pub async fn append(&self, batches: &[RecordBatch], options: Value) -> Result<Vec<Acknowledgement>> {
        let mut writer = self.writer(&batches[0], options).await?;
        for (id, batch) in (0..).zip(batches) {
            writer.write(id, batch).await?;
        }
        writer.close().await
    }

    pub fn commit_path(&self, version: u64) -> PathBuf {
        self.path().join(format!("_delta_log/{version:020}.json"))
    }

    pub fn latest(&self) -> u64 {
        (0..)
            .find(|version| !self.commit_path(*version).exists())
            .unwrap()
            - 1
    }

    /// Every action of every version, as it lies in the log.
    pub fn actions(&self) -> Vec<Value> {
        (0..=self.latest())
            .flat_map(|version| {
                let text = std::fs::read_to_string(self.commit_path(version)).unwrap();
                let lines: Vec<Value> = text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                lines
            })
            .collect()
    }

    pub fn adds(&self) -> Vec<Value> {
        self.actions()
            .iter()
            .filter_map(|action| action.get("add").cloned())
            .collect()
    }

    pub fn stats(&self, add: &Value) -> Value {
        serde_json::from_str(add["stats"].as_str().unwrap()).unwrap()
    }

    pub fn schema(&self) -> Value {
        let metadata = self
            .actions()
            .iter()
            .rev()
            .find_map(|action| action.get("metaData").cloned())
            .unwrap();
        serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap()
    }

    pub fn protocol(&self) -> Value {
        self.actions()
            .iter()
            .rev()
            .find_map(|action| action.get("protocol").cloned())
            .unwrap()
    }

    pub fn read(&self, add: &Value) -> Vec<RecordBatch> {
        let path = percent_decoded(add["path"].as_str().unwrap());
        let file =
            std::fs::File::open(self.path().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap()
            .map(|batch| batch.unwrap())
            .collect()
    }

    pub fn batches(&self) -> Vec<RecordBatch> {
        self.adds().iter().flat_map(|add| self.read(add)).collect()
    }

    /// The `id` column of all that the log names, sorted.
    pub fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self
            .batches()
            .iter()
            .flat_map(|batch| {
                let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
                ids.values().to_vec()
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Parquet files on the disk, whether a version names them or not.
    pub fn parquet_files(&self) -> usize {
        files_under(&self.path())
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
            .filter(|path| !path.components().any(|part| part.as_os_str() == "_delta_log"))
            .count()
    }

    /// A log written by hand, as another writer might have.
    pub fn write_log(&self, version: u64, actions: &[Value]) {
        let path = self.commit_path(version);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        std::fs::write(path, lines.join("\n")).unwrap();
    }

    /// Opened by deltalake-core, as a reader would.
    pub async fn by_deltalake(&self) -> deltalake_core::DeltaTable {
        let url = url::Url::from_directory_path(self.path()).unwrap();
        deltalake_core::DeltaTableBuilder::from_url(url)
            .unwrap()
            .load()
            .await
            .unwrap()
    }
}

pub fn files_under(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_under(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            plain.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(plain).unwrap()
}

pub fn config(options: Value) -> Config {
    Config::from_json(&options).unwrap()
}

/// A session, its acknowledgements, and writes made of batches.
pub struct Writer {
    pub session: Box<dyn Session>,
    pub landed: Option<(u64, Position)>,
    pub heard: UnboundedReceiver<Acknowledgement>,
}

impl Writer {
    pub async fn open(
        delta: &Delta,
        batch: &RecordBatch,
        producer: Uuid,
        resume_from: Option<u64>,
    ) -> Result<Writer> {
        let (acknowledgements, heard) = Acknowledgements::channel();
        let opening = Opening {
            epochs: None,
            schema: batch.schema(),
            producer,
            resume_from,
            acknowledgements,
        };
        let Opened { session, landed, .. } = delta.open(opening).await?;
        Ok(Writer {
            session,
            landed: landed.last().map(|last| match last {
                Acknowledgement::Through { id, position } => (*id, *position),
                other => panic!("{other:?}"),
            }),
            heard,
        })
    }

    pub async fn write(&mut self, id: u64, batch: &RecordBatch) -> Result<()> {
        self.write_all(id, std::slice::from_ref(batch)).await
    }

    pub async fn write_all(&mut self, id: u64, batches: &[RecordBatch]) -> Result<()> {
        let write = Write {
            positions: Vec::new(),
            id,
            rows: batches.iter().map(RecordBatch::num_rows).sum(),
            bytes: batches.iter().map(RecordBatch::get_array_memory_size).sum(),
            batches: batches.to_vec(),
        };
        self.session.write(Arc::new(write)).await
    }

    pub async fn flush(&mut self) -> Result<Option<(u64, Position)>> {
        self.session.flush().await?;
        Ok(self.acknowledged())
    }

    pub async fn close(mut self) -> Result<Vec<Acknowledgement>> {
        self.session.close().await?;
        let mut all = Vec::new();
        while let Ok(one) = self.heard.try_recv() {
            all.push(one);
        }
        Ok(all)
    }

    pub fn acknowledged(&mut self) -> Option<(u64, Position)> {
        match self.heard.try_recv() {
            Ok(Acknowledgement::Through { id, position }) => Some((id, position)),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }
}

/// Rows `from..to` with an `id` and a `name`.
pub fn rows(from: i64, to: i64) -> RecordBatch {
    let names: StringArray = (from..to)
        .map(|id| (id % 7 != 0).then(|| format!("name {id}")))
        .collect();
    columns(vec![
        ("id", Arc::new(Int64Array::from_iter_values(from..to)) as ArrayRef),
        ("name", Arc::new(names)),
    ])
}

pub fn columns(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

pub fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("should have been refused"),
        Err(error) => error,
    }
}

/// The actions of a table with an `id` column that another writer made.
pub fn foreign(protocol: Value, field_metadata: Value, configuration: Value) -> Vec<Value> {
    let schema = json!({"type": "struct", "fields": [
        {"name": "id", "type": "long", "nullable": true, "metadata": field_metadata},
    ]});
    vec![
        json!({"protocol": protocol}),
        json!({"metaData": {
            "id": Uuid::new_v4(), "format": {"provider": "parquet", "options": {}},
            "schemaString": schema.to_string(), "partitionColumns": [],
            "configuration": configuration, "createdTime": 1,
        }}),
    ]
}

pub fn field(name: &str, of: DataType, nullable: bool) -> Field {
    Field::new(name, of, nullable)
}
