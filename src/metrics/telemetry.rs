//! What is told of requests beside the ledger, and what of it was lost. Fed where it is dropped.

use prometheus::IntCounter;

use super::make::Maker;

/// The metrics of the access log and the export of spans.
#[derive(Clone)]
pub struct Telemetry {
    /// Lines of the access log that were dropped.
    pub access_dropped: IntCounter,
    /// Spans that a collector took.
    pub spans_exported: IntCounter,
    /// Spans that were dropped.
    pub spans_dropped: IntCounter,
}

impl Telemetry {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            access_dropped: maker.counter("perpetuo_access_log_dropped_total", "Lines the access log did not take.")?,
            spans_exported: maker.counter("perpetuo_trace_spans_exported_total", "Spans the collector took.")?,
            spans_dropped: maker.counter("perpetuo_trace_spans_dropped_total", "Spans that were not exported.")?,
        })
    }
}
