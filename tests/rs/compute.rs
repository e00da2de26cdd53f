//! The threads that compute: as many as there are processors, however much there is to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow_ingest::compute::{dedicate_threads, spawn};

/// what a thread's allocations ever came to stays with it, so memory is bounded only if threads are.
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
