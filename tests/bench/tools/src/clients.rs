//! Clients: so many connections that ask one after the other, as fast as answers come or at a fixed rate.
//!
//! Times are microseconds. A stream counts as complete when its last event was `[DONE]`, any other answer when its body was.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, Result};
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::steps::Steps;
use crate::wire::Wire;

/// What to ask, and how.
#[derive(Deserialize)]
pub struct Job {
    /// `127.0.0.1:3000`.
    address: String,
    path: String,
    /// `name: value`.
    headers: Vec<String>,
    /// `{stream}` in it becomes a number of its own for each request.
    body: String,
    connections: usize,
    /// Requests in all.
    requests: u64,
    /// Seconds after which nothing more is asked.
    #[serde(default = "forever")]
    seconds: f64,
    /// Requests per second in all; none for as fast as answers come.
    rate: Option<f64>,
    /// Seconds over which connections begin.
    #[serde(default)]
    ramp: f64,
}

fn forever() -> f64 {
    1e6
}

/// What came of it.
#[derive(Serialize, Default)]
pub struct Report {
    complete: u64,
    /// Why others were not: their status, or what broke.
    failed: std::collections::BTreeMap<String, u64>,
    /// Seconds.
    wall: f64,
    /// Whole answers: median, 99th percentile and the longest, in microseconds.
    latency: [u64; 3],
    /// The same of the first byte of their bodies.
    first: [u64; 3],
    /// Bytes of bodies.
    bytes: u64,
}

struct Course {
    job: Rc<Job>,
    steps: Rc<Steps>,
    asked: Cell<u64>,
    began: Instant,
    seen: RefCell<Seen>,
}

/// Bytes of an answer's end that are looked at.
const END: usize = 16;

#[derive(Default)]
struct Seen {
    report: Report,
    latency: Vec<u64>,
    first: Vec<u64>,
}

/// Does a job.
pub async fn run(job: Rc<Job>, steps: Rc<Steps>) -> Report {
    let course = Course { job, steps, asked: Cell::new(0), began: Instant::now(), seen: RefCell::default() };
    let course = Rc::new(course);
    let mut clients = JoinSet::new();
    for number in 0..course.job.connections {
        clients.spawn_local(client(Rc::clone(&course), number));
    }
    while clients.join_next().await.is_some() {}
    let mut seen = course.seen.take();
    seen.report.wall = course.began.elapsed().as_secs_f64();
    seen.report.latency = quantiles(&mut seen.latency);
    seen.report.first = quantiles(&mut seen.first);
    seen.report
}

fn quantiles(times: &mut [u64]) -> [u64; 3] {
    times.sort_unstable();
    [0.5, 0.99, 1.0].map(|share| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    })
}

async fn client(course: Rc<Course>, number: usize) {
    let job = &course.job;
    let share = number as f64 / job.connections as f64;
    let pause = job.rate.map(|rate| Duration::from_secs_f64(job.connections as f64 / rate));
    let begin = pause.map_or(0.0, |pause| pause.as_secs_f64() * share) + job.ramp * share;
    let mut due = course.began + Duration::from_secs_f64(begin);
    tokio::time::sleep_until(due.into()).await;
    let mut wire = None;
    while course.began.elapsed().as_secs_f64() < job.seconds {
        let request = course.asked.get();
        if request >= job.requests {
            return;
        }
        course.asked.set(request + 1);
        match course.ask(&mut wire, request).await {
            Ok(()) => course.seen.borrow_mut().report.complete += 1,
            Err(error) => {
                wire = None;
                *course.seen.borrow_mut().report.failed.entry(error.to_string()).or_default() += 1;
            }
        }
        if let Some(pause) = pause {
            due += pause;
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

impl Course {
    async fn ask(&self, wire: &mut Option<Wire>, request: u64) -> Result<()> {
        let job = &self.job;
        let wire = match wire {
            Some(wire) => wire,
            None => {
                let stream = TcpStream::connect(&job.address).await?;
                stream.set_nodelay(true)?;
                wire.insert(Wire::new(stream))
            }
        };
        let body = job.body.replacen("{stream}", &request.to_string(), 1);
        let headers: String = job.headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json\r\nuser-agent: bench\r\n{headers}content-length: {}\r\n\r\n",
            job.path,
            job.address,
            body.len()
        );
        let step = self.steps.of(request);
        let began = Instant::now();
        wire.stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        let head = wire.head(true).await?.ok_or(ErrorKind::UnexpectedEof)?;
        let (mut framing, mut bytes, mut end) = (head.framing, 0, Vec::new());
        let mut first = None;
        loop {
            let piece = wire.body(&mut framing).await?;
            if piece.is_empty() {
                break;
            }
            first.get_or_insert_with(|| began.elapsed());
            bytes += piece.len() as u64;
            if head.status != 200 {
                return Err(Error::other(format!("status {}: {}", head.status, String::from_utf8_lossy(&piece))));
            }
            // A piece may end anywhere.
            end.extend_from_slice(&piece[piece.len().saturating_sub(END)..]);
            end.drain(..end.len().saturating_sub(END));
            step.notify_one();
        }
        let took = began.elapsed();
        self.steps.forget(request);
        if memmem::find(job.body.as_bytes(), b"\"stream\":true").is_some() && memmem::find(&end, b"[DONE]").is_none() {
            return Err(Error::other("a stream without its end"));
        }
        let mut seen = self.seen.borrow_mut();
        seen.report.bytes += bytes;
        seen.latency.push(took.as_micros() as u64);
        seen.first.push(first.unwrap_or(took).as_micros() as u64);
        Ok(())
    }
}
