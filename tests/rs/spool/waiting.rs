//! calls that wait for room on the disk, and are taken back. The stories are those of `delivering`.

use std::path::Path;
use std::time::Duration;

use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use arrow_ingest::spool::Durability;

use crate::delivering::{Story, shelf_of};
use crate::transmitting::{batch, schema};

const ROWS: i64 = 1_000;
/// So many deliveries of so many rows have room.
const FITTING: i64 = 5;

/// A spool of so many bytes whose destination is away, so that it fills up.
fn away(seed: u64, home: &Path, max_bytes: u64) -> Story {
    let mut story = Story::new(seed, home);
    (story.exact, story.durability) = (true, Durability::Synced);
    story.max_bytes = Some(max_bytes);
    shelf_of(&story.shelf).is_away = true;
    story
}

/// whoever waits for a disk that is full is not bound to wait for good: neither the first, nor those behind it.
#[tokio::test]
async fn who_waits_for_room_is_taken_back_at_once_wherever_it_stands() {
    let home = tempfile::tempdir().unwrap();
    let mut story = away(11, home.path(), 50_000);
    let life = story.begin().await;
    let rows = |n: i64, rows: i64| (0..rows).map(move |row| 1_000_000 * n + 100 * row);
    let mut sequences = Vec::new();
    for n in 0..=FITTING {
        let sent = life.rig.send_waiting(&batch(&schema("n"), rows(n, ROWS))).await;
        sequences.push(sent.unwrap());
    }
    let first = sequences.pop().unwrap();
    life.rig
        .until(|heard| sequences.iter().all(|sequence| heard.spooled.contains(sequence)))
        .await;
    let mut behind = Vec::new();
    for n in 0..4 {
        let sent = life
            .rig
            .send_waiting(&batch(&schema("n"), rows(10 + n, 10)))
            .await;
        behind.push(sent.unwrap());
    }
    let taken_back = async |sequence: u64| {
        let outcome = life.rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
        assert_eq!(outcome.error.unwrap().code(), Code::Aborted);
    };
    // The last first: what was taken back says nothing of those before it.
    life.rig.transmitter.leave(behind[3]);
    taken_back(behind[3]).await;
    life.rig.transmitter.abort(behind[1]);
    taken_back(behind[1]).await;
    life.rig.transmitter.leave(first);
    taken_back(first).await;
    // Small as they are, they have room now.
    for sequence in [behind[0], behind[2]] {
        life.rig.until(|heard| heard.spooled.contains(&sequence)).await;
    }
    shelf_of(&story.shelf).is_away = false;
    for sequence in sequences.into_iter().chain([behind[0], behind[2]]) {
        assert_eq!(life.rig.outcome(sequence).await.status, Status::Acknowledged);
    }
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
    let delivered = shelf_of(&story.shelf).rows.len();
    assert_eq!(delivered, (FITTING * ROWS) as usize + 20);
}

/// many who leave together, the one before all others among them, do not wait for each other.
#[tokio::test]
async fn who_leave_together_are_taken_back_together() {
    let home = tempfile::tempdir().unwrap();
    let mut story = away(12, home.path(), 20_000);
    let life = story.begin().await;
    let mut sequences = Vec::new();
    for n in 0..13 {
        let rows = (0..300).map(|row| 1_000_000 * n + 100 * row);
        let sent = life.rig.send_waiting(&batch(&schema("n"), rows)).await;
        sequences.push(sent.unwrap());
    }
    // Whoever has room is on the disk by the time that the others have waited for long.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let is_spooled = |sequence: &u64| life.rig.heard().spooled.contains(sequence);
    let (mut spooled, waiting): (Vec<u64>, Vec<u64>) =
        sequences.iter().partition(|sequence| is_spooled(sequence));
    assert!(waiting.len() >= 6, "{waiting:?}");
    for sequence in &waiting {
        life.rig.transmitter.leave(*sequence);
    }
    // One after the other they would take a second each.
    let all = async {
        for sequence in &waiting {
            match life.rig.outcome(*sequence).await.status {
                // The disk was slow, and it was not the room that was waited for.
                Status::Spooled => spooled.push(*sequence),
                status => assert_eq!(status, Status::Failed),
            }
        }
    };
    tokio::time::timeout(Duration::from_millis(3_500), all)
        .await
        .unwrap();
    shelf_of(&story.shelf).is_away = false;
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
    assert_eq!(shelf_of(&story.shelf).rows.len(), 300 * spooled.len());
}
