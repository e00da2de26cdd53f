//! Lines of our own on standard error, for who looks into what the native side does.
//!
//! Invariants:
//! - None without `ARROW_INGEST_LOG`, which is read once in a process.
//! - None of a library's: those have URLs with signatures in them.

use std::sync::Once;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// Writes lines from now on, if the environment asks for them.
pub fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let asked = std::env::var("ARROW_INGEST_LOG").unwrap_or_default();
        let Some(level) = level(&asked) else { return };
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_filter(ours(level));
        // Whoever embeds this crate may have a subscriber already, which then gets what it asked for.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
    });
}

/// A word that is none asks for nothing.
fn level(asked: &str) -> Option<Level> {
    asked.trim().parse().ok()
}

fn ours(level: Level) -> Targets {
    let others = Targets::new().with_default(LevelFilter::OFF);
    others.with_target("arrow_ingest", level)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nothing by default, and never a line of a library's.
    #[test]
    fn lines_are_asked_for_and_our_own() {
        for nothing in ["", "off", "yes", "arrow_ingest=debug"] {
            assert_eq!(level(nothing), None, "{nothing}");
        }
        assert_eq!(level(" DEBUG "), Some(Level::DEBUG));
        let ours = ours(Level::DEBUG);
        assert!(ours.would_enable("arrow_ingest", &Level::DEBUG));
        assert!(!ours.would_enable("arrow_ingest", &Level::TRACE));
        for other in ["hyper", "object_store::aws", "reqwest", "h2"] {
            assert!(!ours.would_enable(other, &Level::ERROR), "{other}");
        }
        begin();
    }
}
