//! What the gateway holds at a moment: memory, files, sockets, threads, tasks, requests, disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, interval};

use crate::process::Site;
use crate::support::Scrape;

const EVERY: Duration = Duration::from_secs(30);
/// Short runs are sampled so often.
const AT_LEAST: u32 = 120;

/// One moment.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Since the watch began.
    pub seconds: u64,
    pub rss_kb: u64,
    pub pss_kb: u64,
    /// Open files and sockets, those of the store aside: it opens more as it grows.
    pub fds: u64,
    pub store_fds: u64,
    pub sockets: u64,
    pub threads: u64,
    pub tasks: u64,
    pub requests: u64,
    pub streams: u64,
    pub buffered_bytes: u64,
    pub store_kb: u64,
    /// Requests so far.
    pub served: u64,
    pub cpu_seconds: f64,
}

impl Sample {
    /// Whether no more is held than at the start, memory and disk aside.
    pub fn rests_like(&self, start: &Self) -> bool {
        self.fds <= start.fds
            && self.sockets <= start.sockets
            && self.tasks <= start.tasks
            && self.threads <= start.threads
            && self.requests + self.streams + self.buffered_bytes == 0
    }
}

/// Takes samples of a process.
#[derive(Clone)]
pub struct Sampler {
    process: PathBuf,
    metrics: SocketAddr,
    data: PathBuf,
    began: Instant,
}

impl Sampler {
    pub fn new(process: u32, site: &Site) -> Self {
        Self {
            process: format!("/proc/{process}").into(),
            metrics: site.metrics.parse().unwrap(),
            data: site.data_dir(),
            began: Instant::now(),
        }
    }

    /// Samples for so long, and shows some of them.
    #[expect(clippy::print_stdout, reason = "an hour is long without a word")]
    pub async fn watch(self, length: Duration) -> Vec<Sample> {
        let mut tick = interval(EVERY.min(length / AT_LEAST));
        let (end, mut samples) = (Instant::now() + length, Vec::new());
        tick.tick().await;
        while Instant::now() < end {
            tick.tick().await;
            let sample = self.take().await;
            if samples.len() % 10 == 0 {
                println!("{}", serde_json::to_string(&sample).unwrap());
            }
            samples.push(sample);
        }
        samples
    }

    pub async fn take(&self) -> Sample {
        let links: Vec<PathBuf> =
            entries(&self.process.join("fd")).filter_map(|fd| std::fs::read_link(fd).ok()).collect();
        let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:")).count();
        let of_store = links.iter().filter(|link| link.starts_with(&self.data)).count();
        let threads = entries(&self.process.join("task")).count();
        let memory = std::fs::read_to_string(self.process.join("smaps_rollup")).unwrap();
        let kilobytes = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let scraped = Scrape::of(self.metrics).await;
        let told = |name: &str| scraped.sum(name, &[]) as u64;
        Sample {
            seconds: self.began.elapsed().as_secs(),
            rss_kb: kilobytes("Rss:"),
            pss_kb: kilobytes("Pss:"),
            fds: (links.len() - of_store) as u64,
            store_fds: of_store as u64,
            sockets: sockets as u64,
            threads: threads as u64,
            tasks: told("perpetuo_runtime_alive_tasks"),
            requests: told("perpetuo_inflight_requests"),
            streams: told("perpetuo_inflight_streams"),
            buffered_bytes: told("perpetuo_buffered_bytes"),
            store_kb: size(&self.data) / 1024,
            served: told("perpetuo_requests_total"),
            cpu_seconds: scraped.sum("process_cpu_seconds_total", &[]),
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Bytes below a path; files that go meanwhile count nothing.
fn size(path: &Path) -> u64 {
    let Ok(about) = path.symlink_metadata() else { return 0 };
    if about.is_dir() { entries(path).map(|path| size(&path)).sum() } else { about.len() }
}
