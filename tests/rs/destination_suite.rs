//! One behaviour for every destination: a new one adds a line to `suite!`.
//!
//! A [`Fixture`] is a fresh destination and, where there are such, eyes of our own on what it holds.

#[path = "flight/support.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod flight;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_ingest::config::Config;
use arrow_ingest::destination::delta::Delta;
use arrow_ingest::destination::discard::Discard;
use arrow_ingest::destination::{
    Acknowledgement, Acknowledgements, Destination, Opened, Opening, Session, Write,
};
use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use support::rig::Rig;
use support::scripted::{Durable, Scripted};
use support::{batch, schema, values};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

struct Fixture {
    destination: Arc<dyn Destination>,
    /// Rows that are durable, sorted. `None` for a destination that keeps none.
    held: Box<dyn Fn() -> Option<Vec<i64>> + Send + Sync>,
}

async fn discard() -> Fixture {
    Fixture {
        destination: Arc::new(Discard::new("discard:").unwrap()),
        held: Box::new(|| None),
    }
}

fn scripted(durable: Durable, tells: bool) -> Fixture {
    let scripted = Arc::new(Scripted::new(durable, tells));
    Fixture {
        destination: scripted.clone(),
        held: Box::new(move || {
            let mut held = scripted.world().held.clone();
            held.sort_unstable();
            Some(held)
        }),
    }
}

async fn at_write() -> Fixture {
    scripted(Durable::AtWrite, false)
}

async fn at_flush() -> Fixture {
    scripted(Durable::AtFlush, true)
}

async fn served(answers: flight::Answers, options: Value) -> Fixture {
    let server = flight::Server::start(answers).await;
    let destination = server.connect(options).await;
    Fixture {
        destination: Arc::new(destination),
        held: Box::new(move || {
            let mut held = server.values();
            held.sort_unstable();
            Some(held)
        }),
    }
}

async fn flight_by_stream() -> Fixture {
    served(flight::Answers::Nothing, json!({})).await
}

async fn flight_cumulative() -> Fixture {
    let options = json!({ "flight": { "acknowledgement": "cumulative" } });
    served(flight::Answers::Cumulative, options).await
}

async fn flight_cumulative_streams() -> Fixture {
    let options = json!({ "flight": { "acknowledgement": "cumulative", "streams": 3 } });
    served(flight::Answers::Cumulative, options).await
}

async fn delta() -> Fixture {
    let home = TempDir::new().unwrap();
    let target = format!("delta:{}", home.path().join("table").display());
    let destination = Delta::connect(&target, &Config::default()).await.unwrap();
    Fixture {
        destination: Arc::new(destination),
        held: Box::new(move || Some(rows_of_table(&home))),
    }
}

#[cfg(feature = "emulator")]
async fn zerobus() -> Fixture {
    use arrow_ingest::destination::zerobus::Zerobus;
    use arrow_ingest::emulator::{Emulator, EmulatorConfig};

    let home = TempDir::new().unwrap();
    let options = json!({ "lake": home.path(), "commitInterval": "10ms" });
    let emulator = Emulator::start(EmulatorConfig::from_json(&options).unwrap())
        .await
        .unwrap();
    let options = json!({ "zerobus": {
        "unityCatalogUrl": emulator.unity_catalog_url(), "clientId": "me", "clientSecret": "secret"
    }});
    let config = Config::from_json(&options).unwrap();
    let destination = Zerobus::connect(&emulator.url("main.suite.table"), &config)
        .await
        .unwrap();
    Fixture {
        destination: Arc::new(destination),
        held: Box::new(move || {
            let _running = &emulator;
            let mut rows = rows_in(&home.path().join("main/suite/table"));
            // At least once: what a dropped session had sent may be there twice.
            rows.dedup();
            Some(rows)
        }),
    }
}

/// What the log's files hold, read without the code under test.
fn rows_of_table(home: &TempDir) -> Vec<i64> {
    rows_in(&home.path().join("table"))
}

fn rows_in(table: &Path) -> Vec<i64> {
    let mut rows = Vec::new();
    for version in 0.. {
        let log = table.join(format!("_delta_log/{version:020}.json"));
        let Ok(text) = std::fs::read_to_string(log) else {
            break;
        };
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            let Some(path) = action["add"]["path"].as_str() else {
                continue;
            };
            let file = std::fs::File::open(table.join(path)).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)
                .unwrap()
                .build()
                .unwrap();
            rows.extend(reader.flat_map(|batch| values(&batch.unwrap())));
        }
    }
    rows.sort_unstable();
    rows
}

/// A session with somebody who listens.
struct Talk {
    session: Box<dyn Session>,
    landed: Option<u64>,
    said: UnboundedReceiver<Acknowledgement>,
    acknowledged: u64,
}

impl Fixture {
    async fn open(&self, producer: Uuid, resume_from: Option<u64>) -> Talk {
        let (acknowledgements, said) = Acknowledgements::channel();
        let opening = Opening {
            epochs: None,
            schema: schema("n"),
            producer,
            resume_from,
            acknowledgements,
        };
        let Opened { session, landed, .. } = self.destination.open(opening).await.unwrap();
        Talk {
            session,
            landed: landed.last().map(id_of),
            said,
            acknowledged: 0,
        }
    }

    /// Listens; whatever is acknowledged has to be there already, and in order.
    fn listen(&self, talk: &mut Talk) -> u64 {
        while let Ok(said) = talk.said.try_recv() {
            let Acknowledgement::Through { id, .. } = said else {
                panic!("{said:?}");
            };
            assert!(id > talk.acknowledged, "{id} after {}", talk.acknowledged);
            talk.acknowledged = id;
        }
        if let Some(held) = (self.held)() {
            // Ids grow and may have gaps: 5 and 6 are never used here.
            for id in (1..=talk.acknowledged).filter(|id| !(5..=6).contains(id)) {
                let rows = rows_of_write(id);
                assert!(
                    rows.iter().all(|row| held.contains(row)),
                    "write {id} is not there"
                );
            }
        }
        talk.acknowledged
    }
}

fn rows_of_write(id: u64) -> Vec<i64> {
    (0..5).map(|row| id as i64 * 10 + row).collect()
}

fn write(id: u64) -> Arc<Write> {
    write_of(id, &schema("n"))
}

fn write_of(id: u64, schema: &SchemaRef) -> Arc<Write> {
    let rows = rows_of_write(id);
    let batches = vec![
        batch(schema, rows[..2].iter().copied()),
        batch(schema, rows[2..].iter().copied()),
    ];
    Arc::new(Write {
        positions: Vec::new(),
        id,
        batches,
        rows: 5,
        bytes: 40,
    })
}

fn expected(ids: impl IntoIterator<Item = u64>) -> Vec<i64> {
    ids.into_iter().flat_map(rows_of_write).collect()
}

/// Acknowledgements come in order, when rows are durable, and after a flush none is missing.
async fn acknowledges_in_order_what_is_durable(fixture: Fixture) {
    let mut talk = fixture.open(Uuid::new_v4(), None).await;
    for id in 1..=4 {
        talk.session.write(write(id)).await.unwrap();
        assert!(fixture.listen(&mut talk) <= id);
    }
    talk.session.flush().await.unwrap();
    assert_eq!(fixture.listen(&mut talk), 4);
    assert!(talk.session.flush_due().is_none(), "nothing is left to be due");
    // A flush of nothing is no error, and says nothing new.
    talk.session.flush().await.unwrap();
    assert_eq!(fixture.listen(&mut talk), 4);
    talk.session.write(write(7)).await.unwrap();
    talk.session.flush().await.unwrap();
    assert_eq!(fixture.listen(&mut talk), 7);
    if let Some(held) = (fixture.held)() {
        assert_eq!(held, expected([1, 2, 3, 4, 7]));
    }
}

async fn close_acknowledges_everything(fixture: Fixture) {
    let mut talk = fixture.open(Uuid::new_v4(), None).await;
    talk.session.write(write(1)).await.unwrap();
    talk.session.write(write(2)).await.unwrap();
    let (said, acknowledged) = (talk.said, talk.acknowledged);
    talk.session.close().await.unwrap();
    let mut rest = Talk {
        session: fixture.open(Uuid::new_v4(), None).await.session,
        landed: None,
        said,
        acknowledged,
    };
    assert_eq!(fixture.listen(&mut rest), 2);
    rest.session.close().await.unwrap();
}

/// Who asks what landed is told the truth; who replays the rest writes it once.
async fn a_new_session_goes_on_where_the_last_one_was(fixture: Fixture) {
    let producer = Uuid::new_v4();
    let mut talk = fixture.open(producer, None).await;
    talk.session.write(write(1)).await.unwrap();
    talk.session.write(write(2)).await.unwrap();
    talk.session.flush().await.unwrap();
    // Pretend that the answer was lost.
    drop(talk);
    let mut again = fixture.open(producer, Some(1)).await;
    if fixture.destination.capabilities().tells_what_landed {
        assert_eq!(again.landed, Some(2));
    } else {
        assert_eq!(again.landed, None);
    }
    again.session.write(write(3)).await.unwrap();
    again.session.flush().await.unwrap();
    assert_eq!(
        again
            .said
            .recv()
            .await
            .map(|said| matches!(said, Acknowledgement::Through { id: 3, .. })),
        Some(true)
    );
    if let Some(held) = (fixture.held)() {
        assert_eq!(held, expected([1, 2, 3]));
    }
    // Nothing of these landed, and nobody may claim so.
    let other = fixture.open(producer, Some(4)).await;
    assert!(other.landed.is_none_or(|landed| landed < 4));
}

/// A session that is dropped leaves no half of anything, and the next one works.
async fn dropping_a_session_is_clean(fixture: Fixture) {
    let producer = Uuid::new_v4();
    let mut talk = fixture.open(producer, None).await;
    talk.session.write(write(1)).await.unwrap();
    talk.session.write(write(2)).await.unwrap();
    let acknowledged = fixture.listen(&mut talk);
    drop(talk);
    let mut again = fixture.open(producer, Some(acknowledged + 1)).await;
    let landed = again.landed.unwrap_or(acknowledged);
    for id in landed + 1..=2 {
        again.session.write(write(id)).await.unwrap();
    }
    again.session.flush().await.unwrap();
    if let Some(held) = (fixture.held)() {
        assert_eq!(held, expected([1, 2]));
    }
}

/// A batch of another schema than the session's is an error with a code, and no panic; nothing is
/// acknowledged after it.
async fn another_schema_is_an_error(fixture: Fixture) {
    let mut talk = fixture.open(Uuid::new_v4(), None).await;
    talk.session.write(write(1)).await.unwrap();
    let before = fixture.listen(&mut talk);
    let other = Arc::new(Schema::new(vec![Field::new("other", DataType::Int64, false)]));
    let result = match talk.session.write(write_of(2, &other)).await {
        Ok(()) => talk.session.flush().await,
        Err(error) => Err(error),
    };
    assert_eq!(result.unwrap_err().code(), Code::SchemaMismatch);
    let after = fixture.listen(&mut talk);
    assert!(
        after == before && after < 2,
        "acknowledged {after} after an error"
    );
}

async fn check_writes_nothing(fixture: Fixture) {
    fixture.destination.check().await.unwrap();
    fixture.destination.check().await.unwrap();
    assert!((fixture.held)().is_none_or(|held| held.is_empty()));
    assert!(!fixture.destination.capabilities().name.is_empty());
}

/// The whole road.
async fn works_behind_the_transmitter(fixture: Fixture) {
    let rig = Rig::over(
        fixture.destination.clone(),
        json!({ "batching": { "maxRows": 40, "linger": "1ms" } }),
    );
    for n in 0..50 {
        rig.send(&batch(&schema("n"), n * 10..n * 10 + 10));
    }
    rig.flush().await.unwrap();
    rig.send(&batch(&schema("n"), 500..510));
    rig.close(Duration::from_secs(30)).await.unwrap();
    rig.check_the_end();
    let outcomes = rig.heard().outcomes.clone();
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Status::Acknowledged),
        "{outcomes:?}"
    );
    if let Some(held) = (fixture.held)() {
        assert_eq!(held, (0..510).collect::<Vec<_>>());
    }
}

macro_rules! suite {
    ($($fixture:ident),* $(,)?) => { $(
        mod $fixture {
            suite!(@tests $fixture:
                acknowledges_in_order_what_is_durable,
                close_acknowledges_everything,
                a_new_session_goes_on_where_the_last_one_was,
                dropping_a_session_is_clean,
                another_schema_is_an_error,
                check_writes_nothing,
                works_behind_the_transmitter,
            );
        }
    )* };
    (@tests $fixture:ident: $($name:ident),* $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            super::$name(super::$fixture().await).await;
        }
    )* };
}

suite!(
    discard,
    at_write,
    at_flush,
    delta,
    flight_by_stream,
    flight_cumulative,
    flight_cumulative_streams,
);

#[cfg(feature = "emulator")]
suite!(zerobus);

/// a destination counts what it was given, and says nothing good of a write of which rows were lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_lost_a_row_is_not_acknowledged() {
    let fixtures = [
        discard().await,
        delta().await,
        flight_by_stream().await,
        flight_cumulative().await,
        #[cfg(feature = "emulator")]
        zerobus().await,
    ];
    for fixture in fixtures {
        let name = fixture.destination.capabilities().name;
        let mut talk = fixture.open(Uuid::new_v4(), None).await;
        talk.session.write(write(1)).await.unwrap();
        talk.session.flush().await.unwrap();
        let Write {
            id, batches, bytes, ..
        } = Arc::into_inner(write(2)).unwrap();
        let lost = Write {
            positions: Vec::new(),
            id,
            batches,
            bytes,
            rows: 6,
        };
        let error = talk.session.write(Arc::new(lost)).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{name}: {error}");
        let text = "6 rows were given and 5 were written";
        assert!(error.message().contains(text), "{name}: {error}");
        assert_eq!(fixture.listen(&mut talk), 1, "{name}");
    }
}

/// `discard:` takes no path: one would be ignored without a word.
#[test]
fn discard_takes_nothing_after_the_colon() {
    let error = Discard::new("discard:/tmp").err().unwrap();
    assert_eq!(error.code(), Code::ConfigInvalid);
}

/// the URL chooses the destination, and a wrong one is said before anything is reached.
#[tokio::test]
async fn the_url_chooses_the_destination() {
    use arrow_ingest::destination::{connect, validate};
    let config = Config::default();
    assert_eq!(
        connect("discard:", &config).await.unwrap().capabilities().name,
        "discard"
    );
    let home = TempDir::new().unwrap();
    let table = format!("delta:{}", home.path().display());
    assert_eq!(
        connect(&table, &config).await.unwrap().capabilities().name,
        "delta"
    );
    validate("discard:", &config).unwrap();
    validate(&table, &config).unwrap();
    validate("zerobus://1.zerobus.eu.example.com/a.b.c", &config).unwrap();
    for target in [
        "",
        "kafka:topic",
        "discard",
        "delta",
        "discard:x",
        "zerobus://1.zerobus.eu.example.com/a.b",
    ] {
        let error = validate(target, &config).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(connect(target, &config).await.is_err());
    }
}

fn id_of(acknowledgement: &Acknowledgement) -> u64 {
    match acknowledgement {
        Acknowledgement::Through { id, .. } => *id,
        other => panic!("{other:?}"),
    }
}
