//! reqwest 0.12 under the number of 0.13: `Cargo.toml` says why.

pub use upstream::*;
