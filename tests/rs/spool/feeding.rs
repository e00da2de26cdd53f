//! what is on the disk alone until the engine has room for it: read again where that failed, taken back
//! while it waits, left there when the engine ends. The stories are those of `delivering`.

use std::time::Duration;

use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use arrow_ingest::spool::Durability;

use crate::delivering::{Life, Story, shelf_of};
use crate::simulated::{Call, EIO, PANIC};
use crate::transmitting::{batch, schema};

const ROWS: i64 = 2_000;

/// Deliveries of which two fit into memory, all durable, while the destination is away.
async fn fill(life: &Life, numbers: std::ops::Range<i64>) -> Vec<u64> {
    let mut sequences = Vec::new();
    for n in numbers {
        // No row that the destination would refuse.
        let rows = (0..ROWS).map(|row| 1_000_000 * n + 100 * row);
        sequences.push(life.rig.send_waiting(&batch(&schema("n"), rows)).await.unwrap());
    }
    life.rig
        .until(|heard| sequences.iter().all(|sequence| heard.spooled.contains(sequence)))
        .await;
    sequences
}

fn story(seed: u64, home: &tempfile::TempDir) -> Story {
    let mut story = Story::new(seed, home.path());
    (story.exact, story.durability) = (true, Durability::Synced);
    shelf_of(&story.shelf).is_away = true;
    story
}

/// an error, or a fault of ours, that a later read does not meet costs a second and a line in the log.
#[tokio::test]
async fn what_could_not_be_read_is_read_again_a_second_later() {
    for errno in [EIO, PANIC] {
        let home = tempfile::tempdir().unwrap();
        let mut story = story(1, &home);
        let life = story.begin().await;
        story.disk.fail_within(".segment", Call::Read, 0, 1, errno);
        let sequences = fill(&life, 0..8).await;
        life.rig
            .until(|heard| {
                let mut logs = heard.logs.iter();
                logs.any(|log| log.message.contains("cannot be read; it is tried again"))
            })
            .await;
        shelf_of(&story.shelf).is_away = false;
        for sequence in sequences {
            assert_eq!(life.rig.outcome(sequence).await.status, Status::Acknowledged);
        }
        life.rig.close(Duration::from_secs(10)).await.unwrap();
        life.rig.check_the_end();
        assert_eq!(shelf_of(&story.shelf).rows.len(), 8 * ROWS as usize);
    }
}

/// rows that were read already, and wait for room in memory, are taken back as those that are on the disk alone.
#[tokio::test]
async fn what_is_taken_back_while_it_waits_for_room_is_not_delivered() {
    let home = tempfile::tempdir().unwrap();
    let mut story = story(2, &home);
    let life = story.begin().await;
    let first = fill(&life, 0..1).await;
    let others = fill(&life, 1..8).await;
    for sequence in &others {
        life.rig.transmitter.abort(*sequence);
    }
    for sequence in others {
        let outcome = life.rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
        assert_eq!(outcome.error.unwrap().code(), Code::Aborted);
    }
    shelf_of(&story.shelf).is_away = false;
    assert_eq!(life.rig.outcome(first[0]).await.status, Status::Acknowledged);
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
    assert_eq!(shelf_of(&story.shelf).rows.len(), ROWS as usize);
}

/// a fault of ours that ends the engine while rows wait for room leaves all of them in the spool, nobody waiting.
#[tokio::test]
async fn what_waits_for_room_stays_in_the_spool_when_the_engine_ends() {
    let home = tempfile::tempdir().unwrap();
    let mut story = story(3, &home);
    let life = story.begin().await;
    let sequences = fill(&life, 0..8).await;
    shelf_of(&story.shelf).is_mad = true;
    for sequence in sequences {
        assert_eq!(life.rig.outcome(sequence).await.status, Status::Spooled);
    }
    life.rig.close(Duration::from_secs(1)).await.unwrap();
    shelf_of(&story.shelf).is_mad = false;
    story.finish().await;
    assert_eq!(shelf_of(&story.shelf).rows.len(), 8 * ROWS as usize);
}
