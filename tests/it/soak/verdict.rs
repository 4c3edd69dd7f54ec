//! What must hold at the end of a soak, and the table that says whether it does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;

use perpetuo::store::RequestRecord;
use serde_json::{Value, json};

use super::desk::{KEYS, WORKSPACES};
use super::sample::Sample;
use super::{Stage, Tenant};
use crate::reconcile::books;
use crate::reconcile::provider::Entry;
use crate::reconcile::totals::{PATHS, Totals};
use crate::reconcile::traffic::{Case, Seen};
use crate::support::Scrape;

/// The share of the run in which memory may still grow.
const WARM_UP: f64 = 0.15;
/// How much more memory may be held in the last tenth than in the first one behind the warm-up, by their medians.
const GROWTH: f64 = 0.05;

/// What the run left.
pub struct Outcome {
    pub samples: Vec<Sample>,
    pub start: Sample,
    pub end: Sample,
    pub seen: Vec<Seen>,
    pub books: Vec<Entry>,
}

/// A text or a figure of the table.
struct Told(String);

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<u64> for Told {
    fn from(count: u64) -> Self {
        Self(count.to_string())
    }
}

impl From<bool> for Told {
    fn from(yes: bool) -> Self {
        Self((if yes { "yes" } else { "no" }).to_owned())
    }
}

/// One thing that must hold.
struct Row {
    what: &'static str,
    expected: String,
    measured: String,
    holds: bool,
}

/// Everything that must hold.
pub struct Verdict {
    rows: Vec<Row>,
    tables: Vec<String>,
    details: Vec<String>,
    samples: Vec<Sample>,
}

impl Verdict {
    pub async fn of(stage: &Stage, outcome: Outcome) -> Self {
        let mut verdict = Self { rows: Vec::new(), tables: Vec::new(), details: Vec::new(), samples: outcome.samples };
        verdict.memory();
        verdict.rest(&outcome.start, &outcome.end);
        verdict.ledger(stage, outcome.seen, outcome.books).await;
        verdict.quiet(stage).await;
        verdict
    }

    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds)
    }

    fn row(&mut self, what: &'static str, expected: impl Into<Told>, measured: impl Into<Told>, holds: bool) {
        self.rows.push(Row { what, expected: expected.into().0, measured: measured.into().0, holds });
    }

    fn memory(&mut self) {
        let kept = &self.samples[(self.samples.len() as f64 * WARM_UP) as usize..];
        let tenth = (kept.len() / 10).max(1);
        let ends = [&kept[..tenth], &kept[kept.len() - tenth..]];
        let of = |held: fn(&Sample) -> u64| ends.map(|part| median(part.iter().map(held).collect()));
        let (resident, proportional) = (of(|it| it.rss_kb), of(|it| it.pss_kb));
        for (what, [first, last]) in [("resident memory", resident), ("proportional memory", proportional)] {
            let growth = last as f64 / first as f64 - 1.0;
            let measured = format!("{first} kB → {last} kB, {:+.1} %", growth * 100.0);
            self.row(what, format!("at most {:+.0} %", GROWTH * 100.0), measured, growth <= GROWTH);
        }
    }

    fn rest(&mut self, start: &Sample, end: &Sample) {
        let rows: [(&str, u64, u64); 7] = [
            ("open files at rest, without the store's", start.fds, end.fds),
            ("sockets at rest", start.sockets, end.sockets),
            ("threads at rest", start.threads, end.threads),
            ("tasks at rest", start.tasks, end.tasks),
            ("requests in flight", 0, end.requests),
            ("streams in flight", 0, end.streams),
            ("bytes of bodies held", 0, end.buffered_bytes),
        ];
        for (what, before, after) in rows {
            self.row(what, before, after, after <= before);
        }
    }

    async fn ledger(&mut self, stage: &Stage, seen: Vec<Seen>, books: Vec<Entry>) {
        let place = |case| Case::draw(stage.seed, case, WORKSPACES, KEYS.len()).workspace;
        let mut seen_of: HashMap<usize, Vec<Seen>> = HashMap::new();
        let mut books_of: HashMap<usize, Vec<Entry>> = HashMap::new();
        seen.into_iter().for_each(|it| seen_of.entry(place(it.case)).or_default().push(it));
        books.into_iter().for_each(|it| books_of.entry(place(it.case)).or_default().push(it));
        let (mut all, mut told, mut wrong, mut exact, mut unread) = (Totals::default(), true, 0, 0, 0);
        for (place, tenant) in stage.desk.tenants.iter().enumerate() {
            let records = export(stage, tenant).await;
            all.add(&records);
            told &= self.usage(stage, tenant, &Totals::of(&records)).await;
            let (seen, books) =
                (seen_of.remove(&place).unwrap_or_default(), books_of.remove(&place).unwrap_or_default());
            let table = books::compare(&records, &books, &seen);
            (wrong, exact, unread) = (wrong + table.wrong.len(), exact + table.exact, unread + table.unread);
            self.details.extend(table.wrong.iter().take(10).cloned());
            self.tables.push(format!("Workspace {place}\n\n| | |\n| --- | --- |\n{table}"));
        }
        all.add(&export(stage, &stage.desk.noise).await);
        self.row("the usage API's sums are the ledger's", true, told, told);
        self.row("disagreements with the providers' books", 0, wrong as u64, wrong == 0);
        self.row(
            "answers written and not yet read at the end",
            format!("at most {}", exact / 1000),
            unread,
            unread <= exact / 1000,
        );
        self.row("attempts that agree to the token and the pico-dollar", "more than 0".to_owned(), exact, exact > 0);
        let scraped = Scrape::of(stage.site.metrics.parse().unwrap()).await;
        let agree = catch_unwind(AssertUnwindSafe(|| all.check_metrics(&scraped))).is_ok();
        self.row("the metrics' sums are the ledger's", true, agree, agree);
    }

    /// Whether the usage API tells these sums.
    async fn usage(&self, stage: &Stage, tenant: &Tenant, totals: &Totals) -> bool {
        let mut told = PATHS.map(Value::from);
        for (told, path) in told.iter_mut().zip(PATHS) {
            *told = stage.site.get(&stage.desk.token, &format!("/workspaces/{}{path}", tenant.workspace)).await;
        }
        catch_unwind(AssertUnwindSafe(|| totals.check(&told))).is_ok()
    }

    /// Nothing was odd, and the gateway blames itself for nothing.
    async fn quiet(&mut self, stage: &Stage) {
        let odd = stage.odd.lock().unwrap().clone();
        self.row("answers and closes against expectation", 0, odd.len() as u64, odd.is_empty());
        self.details.extend(odd.into_iter().take(20));
        let said = stage.process.log.all();
        let lines: Vec<&str> = said.lines().filter(|line| is_trouble(line)).collect();
        self.row("warnings, errors and panics in the log", 0, lines.len() as u64, lines.is_empty());
        self.details.extend(lines.iter().take(20).map(ToString::to_string));
        let scraped = Scrape::of(stage.site.metrics.parse().unwrap()).await;
        for (what, name, labels) in [
            ("requests that failed by the gateway's fault", "perpetuo_requests_total", ("fault", "gateway")),
            ("requests shed", "perpetuo_shed_total", ("", "")),
            ("ledger commits that failed", "perpetuo_ledger_errors_total", ("", "")),
            ("bookings lost", "perpetuo_ledger_dropped_total", ("", "")),
        ] {
            let labels = Some(labels).filter(|(name, _)| !name.is_empty());
            let count = scraped.sum(name, labels.as_slice());
            self.row(what, 0, count as u64, count == 0.0);
        }
        let sent = [&stage.reloads, &stage.refusals].map(|count| count.load(Ordering::Relaxed));
        // The configuration of the start counts as loaded.
        let done = ["success", "failure"]
            .map(|result| scraped.sum("perpetuo_config_reloads_total", &[("result", result)]) as u64);
        self.row("configurations taken and refused", format!("{sent:?}"), format!("{done:?}"), done == sent);
    }

    /// Writes `report.md` and `report.json`, and returns the former.
    pub fn write(&self, directory: &Path) -> String {
        let mut text = "| what | expected | measured | |\n| --- | --- | --- | --- |\n".to_owned();
        for Row { what, expected, measured, holds } in &self.rows {
            let mark = if *holds { "holds" } else { "**does not hold**" };
            writeln!(text, "| {what} | {expected} | {measured} | {mark} |").unwrap();
        }
        for part in self.tables.iter().chain(&self.details) {
            writeln!(text, "\n{part}").unwrap();
        }
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let report = json!({"holds": self.holds(), "rows": rows, "details": self.details, "samples": self.samples});
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("report.md"), &text).unwrap();
        std::fs::write(directory.join("report.json"), report.to_string()).unwrap();
        text
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({"what": self.what, "expected": self.expected, "measured": self.measured, "holds": self.holds})
    }
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}

/// What the run asks for, and what Pingora says of its own accord: of a provider that closed a connection while it was being
/// taken from the pool, and of a client that left in the middle of a head.
const ASKED: [&str; 5] = [
    "a route fails and is left alone",
    "configuration refused",
    // The provider in whose place nobody listens.
    r#""no connection to a provider","target":"perpetuo::proxy::upstream","provider":"groq""#,
    "failed to acquire reusable stream",
    "Fail to proxy: Downstream ConnectionClosed context: while reading request headers",
];

/// Whether a line of the log is a warning that no part of the run asked for.
fn is_trouble(line: &str) -> bool {
    let level = serde_json::from_str(line).map_or(Value::Null, |line: Value| line["level"].clone());
    level != "info" && !ASKED.iter().any(|words| line.contains(words))
}

/// The ledger of a workspace.
async fn export(stage: &Stage, tenant: &Tenant) -> Vec<RequestRecord> {
    let path = format!("/workspaces/{}/logs/export?format=ndjson", tenant.workspace);
    let asked = reqwest::Client::new().get(stage.site.url(&path)).bearer_auth(&stage.desk.token).send().await.unwrap();
    let (mut answer, mut records, mut rest) = (asked.error_for_status().unwrap(), Vec::new(), Vec::new());
    while let Some(bytes) = answer.chunk().await.unwrap() {
        rest.extend_from_slice(&bytes);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = rest.drain(..end).collect::<Vec<u8>>();
        records.extend(
            lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice::<RequestRecord>(line).unwrap()),
        );
    }
    assert!(rest.is_empty(), "the export ended in a line");
    records
}
