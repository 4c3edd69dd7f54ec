//! The process: its version and configuration, its threads, and what the system says of it. The `process_…` metrics are read from
//! `/proc` and so are absent where there is none; their names are those of every Prometheus client.

use std::time::Duration;

use prometheus::core::{AtomicF64, GenericCounter};
use prometheus::{Gauge, IntCounterVec, IntGauge};

use super::make::Maker;

/// How a reload can end.
const RESULTS: [&str; 2] = ["success", "failure"];

/// The metrics of the process.
pub struct Process {
    reloads: IntCounterVec,
    last_success: Gauge,
    /// 1 once the process takes no new requests; fed when the metrics are read.
    pub draining: IntGauge,
    workers: IntGauge,
    alive_tasks: IntGauge,
    queued_tasks: IntGauge,
    busy: Seconds,
    cpu: Seconds,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start_time: Gauge,
}

/// A counter of seconds that is set to what something else has counted.
type Seconds = GenericCounter<AtomicF64>;

/// What the runtime says of its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runtime {
    /// How many.
    pub workers: usize,
    /// Their tasks.
    pub alive_tasks: usize,
    /// Tasks that are ready and wait for a thread.
    pub queued_tasks: usize,
    /// How long they were busy, all together.
    pub busy: Duration,
}

impl Process {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        let seconds = |name, help| maker.put(Seconds::new(name, help)?);
        let build = maker.gauges("perpetuo_build_info", "The running version; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let reloads = maker.counters("perpetuo_config_reloads_total", "Reloads of the configuration.", &["result"])?;
        for result in RESULTS {
            reloads.with_label_values(&[result]);
        }
        Ok(Self {
            reloads,
            last_success: maker.level(
                "perpetuo_config_last_success_timestamp_seconds",
                "When the configuration that is in use was loaded.",
            )?,
            draining: maker.gauge("perpetuo_draining", "1 once the process is to end.")?,
            workers: maker.gauge("perpetuo_runtime_workers", "Threads that serve requests.")?,
            alive_tasks: maker.gauge("perpetuo_runtime_alive_tasks", "Tasks of the threads that serve requests.")?,
            queued_tasks: maker
                .gauge("perpetuo_runtime_queued_tasks", "Tasks that are ready and wait for a thread.")?,
            busy: seconds("perpetuo_runtime_busy_seconds_total", "Time the threads that serve requests were busy.")?,
            cpu: seconds("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")?,
            resident: maker.gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            virtual_memory: maker.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            open_fds: maker.gauge("process_open_fds", "Number of open file descriptors.")?,
            max_fds: maker.gauge("process_max_fds", "Maximum number of open file descriptors.")?,
            threads: maker.gauge("process_threads", "Number of threads in the process.")?,
            start_time: maker
                .level("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.")?,
        })
    }

    /// The configuration was read again, at this many seconds since 1970, and is in use unless that failed.
    pub fn reloaded(&self, succeeded: bool, at: f64) {
        let [success, failure] = RESULTS;
        self.reloads.with_label_values(&[if succeeded { success } else { failure }]).inc();
        if succeeded {
            self.started_with(at);
        }
    }

    /// The configuration in use is of this moment.
    pub fn started_with(&self, at: f64) {
        self.last_success.set(at);
    }

    /// What the runtime says now.
    pub fn show_runtime(&self, runtime: Runtime) {
        self.workers.set(signed(runtime.workers));
        self.alive_tasks.set(signed(runtime.alive_tasks));
        self.queued_tasks.set(signed(runtime.queued_tasks));
        raise(&self.busy, runtime.busy.as_secs_f64());
    }

    /// What the system says now. What it does not say stays as it was.
    #[cfg(target_os = "linux")]
    pub(super) fn look(&self) {
        use procfs::process::LimitValue;
        use procfs::{boot_time_secs, page_size, process, ticks_per_second};

        let Ok(me) = process::Process::myself() else { return };
        if let Ok(stat) = me.stat() {
            let ticks = ticks_per_second() as f64;
            raise(&self.cpu, (stat.utime + stat.stime) as f64 / ticks);
            self.resident.set(signed(stat.rss.saturating_mul(page_size())));
            self.virtual_memory.set(signed(stat.vsize));
            self.threads.set(stat.num_threads);
            if let Ok(boot) = boot_time_secs() {
                self.start_time.set(boot as f64 + stat.starttime as f64 / ticks);
            }
        }
        if let Ok(count) = me.fd_count() {
            self.open_fds.set(signed(count));
        }
        if let Ok(limits) = me.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            self.max_fds.set(signed(most));
        }
    }

    /// Only Linux says it in `/proc`.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "as on Linux")]
    pub(super) fn look(&self) {}
}

/// Sets a counter to what was counted elsewhere; it never falls.
fn raise(counter: &Seconds, to: f64) {
    counter.inc_by((to - counter.get()).max(0.0));
}

fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
