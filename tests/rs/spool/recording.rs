//! rows that a destination refused, or that were taken back, until the disk has that: what waits for it, and what
//! becomes of rows that the disk does not take. The stories are those of `delivering`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_ingest::outcome::Status;
use arrow_ingest::spool::Durability;

use crate::delivering::{Mood, POISON, REFUSED, Shelf, Story, all_set_aside, set_aside, shelf_of};
use crate::simulated::Call;
use crate::transmitting::rig::{Heard, eventually};
use crate::transmitting::{batch, schema};

/// A file where a folder should be: nothing can be put aside there until somebody removes it.
fn block(home: &Path, folder: &str) -> PathBuf {
    let spool = home.join("default");
    std::fs::create_dir_all(&spool).unwrap();
    let folder = spool.join(folder);
    std::fs::write(&folder, "").unwrap();
    folder
}

fn says(heard: &Heard, text: &str) -> usize {
    heard.logs.iter().filter(|log| log.message.contains(text)).count()
}

/// a destination with positions is given nothing behind rows that it refused before the disk has them. Killed in
/// between, the next process could not tell them from rows that landed.
#[tokio::test]
async fn nothing_goes_behind_refused_rows_before_the_disk_has_them() {
    for exact in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let mut story = Story::new(5, home.path());
        (story.exact, story.durability) = (exact, Durability::Synced);
        let life = story.begin().await;
        let first = life.rig.send(&batch(&schema("n"), 0..3));
        assert_eq!(life.rig.outcome(first).await.status, Status::Acknowledged);
        let failed = block(home.path(), "failed");
        let refused = life.rig.send(&batch(&schema("n"), [POISON]));
        let later = life.rig.send(&batch(&schema("n"), 50..53));
        if !exact {
            assert_eq!(life.rig.outcome(later).await.status, Status::Acknowledged);
        }
        life.rig
            .until(|heard| says(heard, "cannot be put aside") >= 2)
            .await;
        let rows: &[i64] = if exact { &[0, 1, 2] } else { &[0, 1, 2, 50, 51, 52] };
        assert_eq!(shelf_of(&story.shelf).rows, rows, "exact: {exact}");
        assert!(
            life.rig
                .heard()
                .outcomes
                .iter()
                .all(|outcome| outcome.sequence != refused)
        );
        std::fs::remove_file(failed).unwrap();
        assert_eq!(life.rig.outcome(later).await.status, Status::Acknowledged);
        assert_eq!(life.rig.outcome(refused).await.status, Status::Failed);
        life.rig.close(Duration::from_secs(10)).await.unwrap();
        life.rig.check_the_end();
        assert_eq!(set_aside(&home.path().join("default")), BTreeSet::from([POISON]));
    }
}

/// a disk that is full of the spool itself would never be emptied. What is risked then is said.
#[tokio::test]
async fn a_disk_that_takes_no_refused_rows_stops_a_spool_for_ten_seconds() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(6, home.path());
    (story.exact, story.durability) = (true, Durability::Synced);
    let life = story.begin().await;
    let first = life.rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(life.rig.outcome(first).await.status, Status::Acknowledged);
    let failed = block(home.path(), "failed");
    let began = tokio::time::Instant::now();
    let refused = life.rig.send(&batch(&schema("n"), [POISON]));
    let later = life.rig.send(&batch(&schema("n"), 50..53));
    life.rig
        .until(|heard| says(heard, "cannot be put aside") > 0)
        .await;
    tokio::time::pause();
    life.rig
        .until(|heard| says(heard, "delivering goes on") > 0)
        .await;
    tokio::time::resume();
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(life.rig.outcome(later).await.status, Status::Acknowledged);
    std::fs::remove_file(failed).unwrap();
    assert_eq!(life.rig.outcome(refused).await.status, Status::Failed);
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
}

/// Refused rows that no disk takes are kept in memory: so many of them, and then nothing more is sent.
#[tokio::test]
async fn refused_rows_that_no_disk_takes_are_bounded() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(7, home.path());
    (story.exact, story.durability) = (false, Durability::Written);
    let life = story.begin().await;
    let failed = block(home.path(), "failed");
    let mut sequences = Vec::new();
    for _ in 0..1_100 {
        let sent = life.rig.send_waiting(&batch(&schema("n"), [POISON])).await;
        sequences.push(sent.unwrap());
    }
    // Each ends a session, until the bound is passed.
    eventually(|| life.rig.counters.sessions_broken.get() > 1_024).await;
    life.rig
        .until(|heard| says(heard, "cannot be put aside") >= 2)
        .await;
    let last = life.rig.send_waiting(&batch(&schema("n"), 50..53)).await.unwrap();
    let waited = life.rig.outcome(last);
    assert!(
        tokio::time::timeout(Duration::from_secs(2), waited)
            .await
            .is_err()
    );
    std::fs::remove_file(failed).unwrap();
    assert_eq!(life.rig.outcome(last).await.status, Status::Acknowledged);
    for sequence in sequences {
        assert_eq!(life.rig.outcome(sequence).await.status, Status::Failed);
    }
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
}

/// what is taken back is on the disk as taken back before the destination gets later rows.
#[tokio::test]
async fn nothing_goes_behind_rows_that_were_taken_back_before_the_disk_knows() {
    // One that the engine has, and one for which it has no room.
    for aborted in [1, 10] {
        let home = tempfile::tempdir().unwrap();
        let mut story = Story::new(8, home.path());
        (story.exact, story.durability) = (true, Durability::Synced);
        let life = story.begin().await;
        let first = life.rig.send(&batch(&schema("n"), 0..3));
        assert_eq!(life.rig.outcome(first).await.status, Status::Acknowledged);
        shelf_of(&story.shelf).is_away = true;
        let mut sequences = Vec::new();
        for n in 1..=12_i64 {
            let rows = (0..500).map(|row| 1_000_000 * n + 100 * row);
            sequences.push(life.rig.send_waiting(&batch(&schema("n"), rows)).await.unwrap());
        }
        life.rig
            .until(|heard| heard.spooled.len() == 1 + sequences.len())
            .await;
        // Before it is back: a session that has not seen it away would go on, and no other be opened.
        eventually(|| life.rig.counters.sessions_broken.get() > 0).await;
        story.disk.hang(".segment", Call::Write);
        life.rig.transmitter.abort(sequences[aborted]);
        eventually(|| story.disk.hanging() > 0).await;
        let opened = life.rig.counters.sessions_opened.get();
        shelf_of(&story.shelf).is_away = false;
        eventually(|| life.rig.counters.sessions_opened.get() > opened).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let behind = 1_000_000 * (aborted as i64 + 2);
        let sent = |shelf: &Shelf| shelf.rows.iter().any(|row| *row >= behind);
        assert!(!sent(&shelf_of(&story.shelf)), "{aborted}");
        story.disk.heal();
        assert_eq!(life.rig.outcome(sequences[aborted]).await.status, Status::Failed);
        assert_eq!(life.rig.outcome(sequences[11]).await.status, Status::Acknowledged);
        life.rig.close(Duration::from_secs(10)).await.unwrap();
        life.rig.check_the_end();
        assert!(sent(&shelf_of(&story.shelf)));
    }
}

/// tries that fail fill neither the files of those that succeed nor the log.
#[tokio::test]
async fn a_folder_that_takes_no_rows_adds_none_to_the_other() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(9, home.path());
    (story.exact, story.durability) = (false, Durability::Synced);
    let life = story.begin().await;
    let blocked = block(home.path(), "dead-letters");
    let mut sequences = Vec::new();
    for n in 0..20 {
        let rows = [1_000 * n + POISON];
        sequences.push(life.rig.send(&batch(&schema("n"), rows)));
        let rows = [1_000 * n, 1_000 * n + REFUSED, 1_000 * n + 24];
        sequences.push(life.rig.send(&batch(&schema("n"), rows)));
    }
    let tries = |heard: &Heard| says(heard, "cannot be put aside");
    eventually(|| shelf_of(&story.shelf).rows.len() >= 40).await;
    // What has landed is in the log as settled a second later, or later than that.
    let (mut before, mut after) = (0, usize::MAX);
    for _ in 0..10 {
        let so_far = tries(&life.rig.heard());
        life.rig.until(|heard| tries(heard) >= so_far + 3).await;
        (before, after) = (after, story.disk.used());
        if after <= before.saturating_add(256) && before != usize::MAX {
            break;
        }
    }
    assert!(
        after <= before.saturating_add(256),
        "{before} bytes, then {after}"
    );
    std::fs::remove_file(blocked).unwrap();
    for sequence in sequences {
        let status = life.rig.outcome(sequence).await.status;
        assert!(matches!(status, Status::Failed | Status::Partial), "{status:?}");
    }
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
    let mut aside = all_set_aside(&home.path().join("default"));
    aside.sort_unstable();
    let wanted: Vec<i64> = (0..20)
        .flat_map(|n| [1_000 * n + REFUSED, 1_000 * n + POISON])
        .collect();
    assert_eq!(aside, wanted);
    assert_eq!(life.rig.counters.dead_letters_kept.get(), 40);
}

/// rows of a delivery that were refused before its abort was told, and became known after it.
#[tokio::test]
async fn rows_of_an_aborted_delivery_that_were_refused_are_put_aside() {
    let home = tempfile::tempdir().unwrap();
    let mut story = Story::new(10, home.path());
    (story.exact, story.durability) = (false, Durability::Synced);
    let life = story.begin().await;
    let first = life.rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(life.rig.outcome(first).await.status, Status::Acknowledged);
    let blocked = block(home.path(), "dead-letters");
    // Its first write comes, the next one does not, and then it is away until it is told otherwise.
    let mut moods = vec![Mood::Away; 100_000];
    // A write that comes takes one, too, and makes nothing of it.
    moods.extend([Mood::TornOff, Mood::LostAnswer]);
    shelf_of(&story.shelf).moods = moods;
    let rows = (100..300).map(|n| if n == 110 { REFUSED } else { 100 * n });
    let aborted = life.rig.send(&batch(&schema("n"), rows));
    eventually(|| shelf_of(&story.shelf).rows.len() > 3).await;
    life.rig.transmitter.abort(aborted);
    let told = life.rig.outcome(aborted).await;
    assert_eq!(told.status, Status::Unknown, "{told:?}");
    shelf_of(&story.shelf).moods.clear();
    let later = life.rig.send(&batch(&schema("n"), 3..5));
    assert_eq!(life.rig.outcome(later).await.status, Status::Acknowledged);
    // All of it has ended by now, and the disk has not taken its row yet.
    let tries = |heard: &Heard| says(heard, "cannot be put aside");
    let so_far = tries(&life.rig.heard());
    life.rig.until(|heard| tries(heard) >= so_far + 2).await;
    std::fs::remove_file(blocked).unwrap();
    life.rig.close(Duration::from_secs(10)).await.unwrap();
    life.rig.check_the_end();
    let landed = shelf_of(&story.shelf).rows.clone();
    assert!(landed.len() < 200 && landed.ends_with(&[3, 4]), "{landed:?}");
    assert_eq!(all_set_aside(&home.path().join("default")), [REFUSED]);
}
