//! What a commit says of itself when its answer is lost, on a disk and in a store.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt as _;
use object_store::ObjectStore;

use super::super::simulated::{Fault, Op, Simulated};
use super::*;

struct Bench {
    store: Simulated,
    location: Location,
    plan: TableConversion,
    view: View,
}

/// A table in a store, or in one that passes for a disk.
async fn bench(disk: bool, poisoned: bool) -> Bench {
    let store = Simulated::default();
    let url = url::Url::parse("memory:///table/").unwrap();
    let local = disk.then(|| "/no/such/place".into());
    let root: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let poisoned = Arc::new(std::sync::atomic::AtomicBool::new(poisoned));
    let location = Location::over(url, root, local, Default::default(), poisoned).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let columns = super::super::types::table_schema(&schema).unwrap();
    create(&location, columns.clone(), &[]).await.unwrap();
    Bench {
        store,
        location,
        plan: TableConversion::new(&schema, &StructType::try_new(columns).unwrap(), &[], false).unwrap(),
        view: View::default(),
    }
}

impl Bench {
    async fn commit(&mut self, first: u64, last: u64) -> std::result::Result<CommitOutcome, Failed> {
        let add = Add {
            path: format!("{last}.parquet"),
            data_change: true,
            ..Add::default()
        };
        let append = Append {
            plan: &self.plan,
            by: &[],
            adds: vec![add],
            app: "app",
            first,
            last,
        };
        commit(&self.location, &mut self.view, append).await
    }

    async fn lands(&mut self, first: u64, last: u64) -> u64 {
        match self.commit(first, last).await {
            Ok(CommitOutcome::Landed(version)) => version,
            Ok(CommitOutcome::Earlier(earlier)) => panic!("{earlier:?}"),
            Err(failed) => panic!("{}", failed.error),
        }
    }

    async fn fails(&mut self, first: u64, last: u64) -> Failed {
        self.commit(first, last).await.err().unwrap()
    }

    async fn versions(&self) -> usize {
        self.store.held.list(None).count().await
    }
}

/// R-17: the answer was lost and the commit was not; the log says so, and nothing is written twice.
#[tokio::test]
async fn a_lost_answer_is_settled_by_reading_the_log() {
    for disk in [true, false] {
        let mut bench = bench(disk, false).await;
        assert_eq!(bench.lands(1, 1).await, 1);
        bench.store.faults(Op::Commit, [Fault::Answer]);
        assert_eq!(bench.lands(2, 2).await, 2);
        assert_eq!(bench.versions().await, 3);
        assert!(bench.view.is_conclusive());
        // And the one after it goes on from there.
        assert_eq!(bench.lands(3, 3).await, 3);
    }
}

/// A log that could not be synced is not believed, whatever it says.
#[tokio::test]
async fn nothing_is_acknowledged_after_a_failed_sync_of_the_log() {
    let mut bench = bench(true, true).await;
    bench.store.faults(Op::Commit, [Fault::Answer]);
    let failed = bench.fails(1, 1).await;
    assert!(failed.may_land && failed.error.is_ambiguous());
    assert_eq!(bench.versions().await, 2);
}

/// On a disk a commit that is not in the log will never be.
#[tokio::test]
async fn a_commit_that_failed_on_a_disk_is_known_to_have_failed() {
    let mut bench = bench(true, false).await;
    bench.store.faults(Op::Commit, [Fault::Request]);
    let failed = bench.fails(1, 1).await;
    assert_eq!(failed.error.code(), Code::Unavailable);
    assert!(!failed.may_land && !failed.error.is_ambiguous());
    assert!(bench.view.is_conclusive());
    assert_eq!(bench.versions().await, 1);
}

/// R-14: in a store a request without an answer is settled by taking its version, by whomever; until then nobody
/// says that it failed.
#[tokio::test]
async fn a_version_that_is_taken_settles_a_lost_request() {
    // By the same commit, at once.
    let mut bench = bench(false, false).await;
    bench.store.faults(Op::Commit, [Fault::Request]);
    assert_eq!(bench.lands(1, 1).await, 1);
    // By the request itself, which is then in nobody's way.
    bench.store.faults(Op::Commit, [Fault::Late(0)]);
    assert_eq!(bench.lands(2, 2).await, 2);
    assert_eq!(bench.versions().await, 3);

    // By nobody yet.
    bench.store.faults(Op::Commit, [Fault::Late(99), Fault::Request]);
    let failed = bench.fails(3, 4).await;
    assert!(failed.may_land && failed.error.is_ambiguous());
    assert!(!bench.view.is_conclusive());
    bench.view.catch_up(&bench.location, "app").await.unwrap();
    assert!(!bench.view.is_conclusive(), "the request is still under way");
    // By another writer.
    let info = object_store::PutPayload::from_static(br#"{"commitInfo":{}}"#);
    let path = object_store::path::Path::from("table/_delta_log/00000000000000000003.json");
    object_store::ObjectStoreExt::put(&*bench.store.held, &path, info)
        .await
        .unwrap();
    bench.view.catch_up(&bench.location, "app").await.unwrap();
    assert!(bench.view.is_conclusive());
    bench.store.land().await;
    assert_eq!(bench.lands(3, 4).await, 4);
    assert_eq!(bench.versions().await, 5);
}

/// A clear refusal is no doubt, and leaves the doubt that there was.
#[tokio::test]
async fn a_refused_commit_is_known_to_have_failed() {
    let mut bench = bench(false, false).await;
    bench.store.faults(Op::Commit, [Fault::Refused]);
    let failed = bench.fails(1, 1).await;
    assert_eq!(failed.error.code(), Code::PermissionDenied);
    assert!(!failed.may_land && !failed.error.is_ambiguous());
    assert!(bench.view.is_conclusive());
    bench
        .store
        .faults(Op::Commit, [Fault::Late(99), Fault::Request, Fault::Refused]);
    bench.fails(1, 1).await;
    bench.fails(1, 1).await;
    assert!(!bench.view.is_conclusive());
    // Nor does it take back a request of the same commit that was not answered.
    bench.view = View::default();
    bench
        .store
        .faults(Op::Commit, [Fault::Late(99), Fault::Taken, Fault::Refused]);
    let failed = bench.fails(1, 1).await;
    assert!(failed.may_land && failed.error.is_ambiguous());
}

/// R-17: what an earlier session has landed is found, also where it is more than this commit holds.
#[tokio::test]
async fn a_commit_that_lands_late_is_not_written_again() {
    let mut bench = bench(false, false).await;
    bench.store.faults(Op::Commit, [Fault::Late(2), Fault::Request]);
    bench.fails(1, 12).await;
    // The replay's first commit holds fewer of them, and the lost one lands just before it.
    let Ok(CommitOutcome::Earlier(earlier)) = bench.commit(1, 2).await else {
        panic!("written twice");
    };
    assert_eq!((earlier.id, earlier.version), (12, Some(1)));
    assert_eq!(bench.lands(13, 14).await, 2);
    assert_eq!(bench.versions().await, 3);
    // One that knows nothing of it finds the same.
    bench.view = View::default();
    bench.view.look_back(&bench.location, "app").await.unwrap();
    let last = AppTransaction {
        id: 14,
        version: Some(2),
        epoch: None,
    };
    assert_eq!(bench.view.last, Some(last));
}

/// If the log cannot be asked either, the outcome is unknown, and the files must stay.
#[tokio::test]
async fn what_cannot_be_settled_is_ambiguous() {
    for faults in [
        vec![Fault::Answer],
        // Somebody holds the version, and nobody can say who.
        vec![Fault::None],
    ] {
        let mut bench = bench(false, false).await;
        bench.view.catch_up(&bench.location, "app").await.unwrap();
        if faults == [Fault::None] {
            let mut other = View::default();
            other.catch_up(&bench.location, "other").await.unwrap();
            let path = object_store::path::Path::from("table/_delta_log/00000000000000000001.json");
            let info = object_store::PutPayload::from_static(br#"{"commitInfo":{}}"#);
            object_store::ObjectStoreExt::put(&*bench.store.held, &path, info)
                .await
                .unwrap();
        }
        bench.store.faults(Op::Commit, faults);
        bench.store.faults(Op::Get, [Fault::Reset]);
        let failed = bench.fails(1, 1).await;
        assert!(failed.may_land && failed.error.is_ambiguous(), "{}", failed.error);
        assert_eq!(failed.error.code(), Code::Unavailable);
    }
}

/// R-19: rounds against writers that are always first come to an end.
#[tokio::test]
async fn a_commit_that_always_loses_is_a_conflict() {
    let mut bench = bench(false, false).await;
    // The store says each time that the version is taken, and then it is not there.
    bench.store.faults(Op::Commit, [Fault::Taken; ROUNDS]);
    let failed = bench.fails(1, 1).await;
    assert_eq!(failed.error.code(), Code::Conflict);
    assert!(!failed.may_land);
}

/// Two writers widen the table at once: both columns are there afterwards, and neither is lost.
#[tokio::test]
async fn a_wider_schema_is_agreed_on_by_all_writers() {
    let mut bench = bench(false, false).await;
    let column = |name: &str| {
        vec![StructField::nullable(
            name,
            deltalake_core::kernel::DataType::LONG,
        )]
    };
    let location = bench.location.clone();
    bench.view.catch_up(&location, "app").await.unwrap();
    let (mut one, mut two) = (View::default(), View::default());
    one.catch_up(&location, "one").await.unwrap();
    two.catch_up(&location, "two").await.unwrap();
    widen(&location, &mut one, "one", &column("a")).await.unwrap();
    let table = widen(&location, &mut two, "two", &column("b")).await.unwrap();
    assert_eq!(table.schema().field_names().collect::<Vec<_>>(), ["id", "a", "b"]);
    // What is there already is no reason for a version.
    widen(&location, &mut one, "one", &column("b")).await.unwrap();
    assert_eq!(bench.versions().await, 3);
    bench.store.faults(Op::Commit, [Fault::Request]);
    let failed = widen(&location, &mut one, "one", &column("c"))
        .await
        .err()
        .unwrap();
    assert_eq!(failed.code(), Code::Unavailable);
    let mut none = View::default();
    let gone = widen(&location, &mut none, "none", &column("c"))
        .await
        .err()
        .unwrap();
    assert_eq!(gone.code(), Code::NotFound);
    // Who commits with what was read before all that is told of it by the log, and goes on.
    assert_eq!(bench.lands(1, 1).await, 3);
}

/// A table that cannot be created, or is gone, is an error with the store's own class.
#[tokio::test]
async fn a_table_that_cannot_be_created_is_said_so() {
    let mut bench = bench(false, false).await;
    bench.view.catch_up(&bench.location, "app").await.unwrap();
    let log = object_store::path::Path::from("table/_delta_log/00000000000000000000.json");
    object_store::ObjectStoreExt::delete(&*bench.store.held, &log)
        .await
        .unwrap();
    let gone = bench.fails(1, 1).await;
    assert_eq!(gone.error.code(), Code::NotFound);
    bench.store.faults(Op::Commit, [Fault::Request]);
    let column = vec![StructField::nullable(
        "id",
        deltalake_core::kernel::DataType::LONG,
    )];
    let failed = create(&bench.location, column, &[]).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
}
