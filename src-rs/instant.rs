//! A moment on a clock that never goes back.
//!
//! It is the standard library's, but in WebAssembly: that has no clock, and asking the standard library for one
//! panics. What is pure gets the time from its caller, so there the host says it.

#[cfg(not(target_family = "wasm"))]
pub use std::time::Instant;

#[cfg(target_family = "wasm")]
pub use told::Instant;

#[cfg(any(test, target_family = "wasm"))]
mod told {
    use std::ops::Add;
    use std::time::Duration;

    /// As long after the host's first moment.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
    pub struct Instant(Duration);

    impl Instant {
        pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Instant;

        fn add(self, later: Duration) -> Instant {
            Instant(self.0.saturating_add(later))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::told::Instant;

    #[test]
    fn a_moment_that_is_told_is_never_before_the_first() {
        let first = Instant::default();
        let later = first + Duration::from_secs(3);
        assert!(later > first);
        assert_eq!(later.saturating_duration_since(first), Duration::from_secs(3));
        assert_eq!(first.saturating_duration_since(later), Duration::ZERO);
        assert_eq!(later + Duration::MAX, first + Duration::MAX);
    }
}
