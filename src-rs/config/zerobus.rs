//! The options of `zerobus`.
//!
//! What is left out here may still come from the environment; whoever opens the destination looks there.

use std::time::Duration;

use super::flight::patience;
use super::group::Group;
use super::{Compression, Secret};

#[derive(Debug, Clone)]
pub struct ZerobusOptions {
    /// Where tokens and the tables' schemas are. Of `http` and `https` only.
    pub unity_catalog_url: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// Of the buffers of a message; never Snappy, which Arrow IPC does not know.
    pub compression: Compression,
    /// Batches that were sent and not acknowledged, after which writing waits.
    pub max_inflight_batches: usize,
    /// Of one try at a token, at a schema and at a stream, each.
    pub connect_timeout: Duration,
    /// How long a batch may wait for its acknowledgement before the stream counts as stuck.
    pub acknowledgement_timeout: Duration,
    /// How long to stay away when the server asks for a pause; up to half of it comes on top.
    pub pause: Duration,
    /// The service keeps nothing of a batch that it refuses.
    pub atomic_refusals: bool,
}

pub(super) fn read(group: &mut Group<'_>) -> ZerobusOptions {
    ZerobusOptions {
        unity_catalog_url: group.text("unityCatalogUrl"),
        client_id: group.text("clientId"),
        client_secret: group.secret("clientSecret").map(Secret::new),
        // What the official clients do.
        compression: group.choice(
            "compression",
            Compression::Zstd,
            &[
                ("none", Compression::None),
                ("lz4", Compression::Lz4),
                ("zstd", Compression::Zstd),
            ],
        ),
        max_inflight_batches: group.count("maxInflightBatches", 1_000, 1),
        connect_timeout: group.duration("connectTimeout", Duration::from_secs(30)),
        acknowledgement_timeout: patience(group, "acknowledgementTimeout", Duration::from_secs(60)),
        pause: group.duration("pause", Duration::from_secs(60)),
        atomic_refusals: group.flag("atomicRefusals", true),
    }
}
