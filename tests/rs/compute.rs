//! The threads that compute: as many as there are processors, however much there is to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow_ingest::compute::{dedicate_threads, spawn};
#[cfg(target_os = "linux")]
use arrow_ingest::{compute::go_last, disk};

/// Allocators keep memory for each thread, so its bound is also one of threads.
#[tokio::test]
async fn work_stays_on_as_many_threads_as_there_are_processors() {
    dedicate_threads();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let works: Vec<_> = (0..64)
        .map(|_| {
            let seen = Arc::clone(&seen);
            spawn(move || {
                // Long enough that each would get a thread of its own.
                thread::sleep(Duration::from_millis(2));
                seen.lock().unwrap().insert(thread::current().id());
            })
        })
        .collect();
    for work in works {
        work.await.unwrap();
    }
    let most = thread::available_parallelism().map_or(2, usize::from).max(2);
    let seen = seen.lock().unwrap().len();
    assert!((1..=most).contains(&seen), "{seen} threads");
}

#[tokio::test]
async fn a_piece_that_panics_leaves_its_thread_to_the_others() {
    dedicate_threads();
    for _ in 0..8 {
        let panics = spawn(|| panic!("as a test"));
        assert!(panics.await.unwrap_err().is_panic());
    }
    assert_eq!(spawn(|| 7).await.unwrap(), 7);
}

/// what a client that ended has left behind is passed over, and lets go of what it held.
#[tokio::test]
async fn work_that_nobody_waits_for_any_more_is_not_begun() {
    dedicate_threads();
    let most = thread::available_parallelism().map_or(2, usize::from).max(2);
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let busy: Vec<_> = (0..most)
        .map(|_| {
            let gate = Arc::clone(&gate);
            spawn(move || {
                let _ = gate.lock().unwrap().recv();
            })
        })
        .collect();
    let held = Arc::new(());
    let ran = Arc::new(Mutex::new(false));
    let (holds, runs) = (Arc::clone(&held), Arc::clone(&ran));
    drop(spawn(move || {
        let _holds = holds;
        *runs.lock().unwrap() = true;
    }));
    for _ in 0..most {
        open.send(()).unwrap();
    }
    for work in busy {
        work.await.unwrap();
    }
    let letting_go = async {
        while Arc::strong_count(&held) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, letting_go)
        .await
        .expect("it is held for ever");
    assert!(!*ran.lock().unwrap());
}

/// what computes and what waits for the disk gets a processor after JavaScript, whichever thread has started it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn threads_of_ours_go_after_javascript() {
    fn nice() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, facts) = stat.rsplit_once(") ").unwrap();
        facts.split(' ').nth(16).unwrap().parse().unwrap()
    }
    dedicate_threads();
    let own = nice();
    let last = (own + 5).min(19);
    let task = || {
        let started = thread::spawn(|| {
            go_last();
            nice()
        });
        (nice(), started.join().unwrap())
    };
    assert_eq!(spawn(task).await.unwrap(), (last, last));
    assert_eq!(disk::spawn(task).await.unwrap(), (last, last));
    assert_eq!(nice(), own);
}
