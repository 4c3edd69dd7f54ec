//! How the ledger keeps up. Fed by the meter and its writer.

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::make::{COMMIT_BUCKETS, Maker};

/// The metrics of the ledger.
pub struct Ledger {
    /// Bookings that never reached it.
    pub dropped: IntCounter,
    /// Bookings that are on disk.
    pub bookings: IntCounter,
    /// Bookings that wait to be gathered.
    pub queue: IntGauge,
    /// How many may.
    pub queue_capacity: IntGauge,
    /// How long the oldest booking has been waiting; fed when the metrics are read.
    pub lag: Gauge,
    /// Time of a commit, in seconds.
    pub commit: Histogram,
    /// Failed commits.
    pub errors: IntCounter,
    /// 1 while its disk takes nothing.
    pub failing: IntGauge,
    /// Answers that went out before their booking was on disk, though they should have waited.
    pub late: IntCounter,
}

impl Ledger {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            dropped: maker.counter("perpetuo_ledger_dropped_total", "Bookings the ledger did not take.")?,
            bookings: maker.counter("perpetuo_ledger_bookings_total", "Bookings that are on disk.")?,
            queue: maker.gauge("perpetuo_ledger_queue", "Bookings that wait for the ledger.")?,
            queue_capacity: maker.gauge("perpetuo_ledger_queue_capacity", "Bookings that may wait for the ledger.")?,
            lag: maker
                .level("perpetuo_ledger_lag_seconds", "How long the oldest booking has been waiting to be on disk.")?,
            commit: maker.histogram(
                "perpetuo_ledger_commit_seconds",
                "Time to write a batch and flush it to the disk.",
                &COMMIT_BUCKETS,
            )?,
            errors: maker.counter("perpetuo_ledger_errors_total", "Failed commits of the ledger.")?,
            failing: maker.gauge("perpetuo_ledger_failing", "1 while the ledger's disk takes nothing.")?,
            late: maker.counter("perpetuo_ledger_late_total", "Answers that did not wait for their booking.")?,
        })
    }
}
