//! Two sets of books side by side: ours, as the admin API exports them, and the providers'.

use std::collections::{HashMap, HashSet};
use std::fmt;

use perpetuo::money::Money;
use perpetuo::store::{AttemptRecord, RequestRecord};
use perpetuo::usage::{Certainty, Usage, estimate_tokens};

use super::provider::{Entry, Fate};
use super::traffic::Seen;

/// An estimated prompt may be off by this share of what the provider counts, and this many tokens more.
pub const PROMPT_BOUND: (f64, f64) = (0.35, 40.0);
/// The same of an estimated answer, where it was counted from what passed.
pub const ANSWER_BOUND: (f64, f64) = (0.35, 16.0);

/// From so many tokens on, the error of an estimated prompt is told in percent.
const LARGE: u64 = 100;

/// Tokens of a prompt beyond which Anthropic's whole request has another price.
const LONG: u64 = 200_000;

/// Pico-dollars for a token by the providers' own lists: input, read from a cache, written to one, output.
fn list_price(model: &str, prompt: u64) -> Option<[u128; 4]> {
    Some(match model {
        "gpt-4o" => [2_500_000, 1_250_000, 2_500_000, 10_000_000],
        "claude-sonnet-4-5" if prompt > LONG => [6_000_000, 600_000, 7_500_000, 22_500_000],
        "claude-sonnet-4-5" => [3_000_000, 300_000, 3_750_000, 15_000_000],
        "gemini-2.5-flash" => [300_000, 30_000, 300_000, 2_500_000],
        "text-embedding-3-small" => [20_000, 20_000, 20_000, 0],
        _ => return None,
    })
}

fn cost(model: &str, usage: &Usage) -> Option<Money> {
    let counts = [usage.input, usage.cached_read, usage.cache_write, usage.output];
    let prices = list_price(model, usage.prompt_tokens())?;
    Some(Money(prices.iter().zip(counts).map(|(price, count)| price * u128::from(count)).sum()))
}

/// What became of the comparison.
#[derive(Default)]
pub struct Table {
    pub requests: u64,
    pub attempts: u64,
    /// Attempts that agree to the token and the pico-dollar.
    pub exact: u64,
    pub estimated: u64,
    pub unpriced: u64,
    /// Attempts that failed with a status, or never reached the provider; nothing is billed.
    pub free: u64,
    /// Attempts that never left the gateway.
    pub unsent: u64,
    /// Estimated attempts that the provider never read.
    pub unseen: u64,
    /// Requests whose client left.
    pub aborted: u64,
    /// Requests that more than one attempt was made for.
    pub failed_over: u64,
    pub hedged: u64,
    /// The provider had written its figure, and the client had left.
    pub missed: u64,
    /// The provider had written more than the gateway had read when it gave up: an estimate is a lower bound then.
    pub unread: u64,
    /// Costs that clients read and that are the booked ones.
    pub told_costs: u64,
    /// In percent, of prompts of a hundred tokens or more.
    pub worst_prompt: f64,
    /// In tokens.
    pub worst_answer: u64,
    /// Estimated and theirs, in tokens, of all estimated attempts.
    pub estimated_tokens: [u64; 2],
    pub wrong: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: [(&str, String); 16] = [
            ("requests", self.requests.to_string()),
            ("attempts", self.attempts.to_string()),
            ("exact, difference 0", self.exact.to_string()),
            ("estimated, within the bound", self.estimated.to_string()),
            ("without a price, tokens exact", self.unpriced.to_string()),
            ("refused by the provider, nothing billed", self.free.to_string()),
            ("never left the gateway", self.unsent.to_string()),
            ("estimated, never read by the provider", self.unseen.to_string()),
            ("aborted by the client", self.aborted.to_string()),
            ("failed over", self.failed_over.to_string()),
            ("hedged", self.hedged.to_string()),
            ("figure written while the client left", self.missed.to_string()),
            ("answer written and not yet read at the end", self.unread.to_string()),
            ("costs read by clients, as booked", self.told_costs.to_string()),
            ("worst estimate: prompt, answer", format!("{:.1} %, {} tokens", self.worst_prompt, self.worst_answer)),
            ("tokens of all estimates: ours, theirs", format!("{:?}", self.estimated_tokens)),
        ];
        rows.iter().try_for_each(|(name, value)| writeln!(f, "| {name} | {value} |"))?;
        write!(f, "| disagreements | {} |", self.wrong.len())
    }
}

/// The entries that are still to be found in our books, by provider and case, in order of arrival.
struct Theirs<'e>(HashMap<String, Vec<&'e Entry>>);

impl<'e> Theirs<'e> {
    fn new(entries: &'e [Entry]) -> Self {
        let mut all: HashMap<_, Vec<&Entry>> = HashMap::new();
        for entry in entries {
            all.entry(format!("{} {}", entry.provider, entry.case)).or_default().push(entry);
        }
        Self(all)
    }

    /// Takes the entry of an attempt: by its id, or the first one whose id is not in our books.
    fn take(&mut self, case: u64, attempt: &AttemptRecord, named: &HashSet<&str>) -> Option<&'e Entry> {
        let mine = self.0.get_mut(&format!("{} {case}", attempt.provider))?;
        let place = match &attempt.upstream_request_id {
            Some(id) => mine.iter().position(|entry| entry.id == *id)?,
            None => mine.iter().position(|entry| !named.contains(entry.id.as_str()) && may_be(attempt, entry))?,
        };
        Some(mine.remove(place))
    }
}

/// Whether an attempt that has no id may be the one of this entry.
fn may_be(attempt: &AttemptRecord, entry: &Entry) -> bool {
    match attempt.error.as_deref() {
        Some("provider_unreachable") => entry.fate == Fate::Reset,
        None => entry.fate == Fate::Answer,
        Some(_) => true,
    }
}

/// Compares everything.
pub fn compare(records: &[RequestRecord], entries: &[Entry], seen: &[Seen]) -> Table {
    let mut table = Table { requests: records.len() as u64, ..Table::default() };
    let named: HashSet<&str> = records
        .iter()
        .flat_map(|record| &record.attempts)
        .filter_map(|attempt| attempt.upstream_request_id.as_deref())
        .collect();
    let mut theirs = Theirs::new(entries);
    let mut booked: HashMap<u64, &RequestRecord> = HashMap::new();
    for record in records {
        let case: u64 = record.request_id.strip_prefix("case-").unwrap().parse().unwrap();
        if booked.insert(case, record).is_some() {
            table.wrong.push(format!("case {case} is booked twice"));
        }
        table.request(case, record, &mut theirs, &named);
    }
    for entry in theirs.0.values().flatten() {
        table.wrong.push(format!("missing in our books: {entry:?}"));
    }
    for seen in seen {
        table.told(seen, booked.get(&seen.case).copied());
    }
    table
}

impl Table {
    fn request(&mut self, case: u64, record: &RequestRecord, theirs: &mut Theirs<'_>, named: &HashSet<&str>) {
        self.aborted += u64::from(record.client_gone);
        self.failed_over += u64::from(record.attempts.len() > 1);
        self.hedged += u64::from(record.attempts.iter().any(|attempt| attempt.error.as_deref() == Some("hedge_lost")));
        for attempt in &record.attempts {
            self.attempts += 1;
            let entry = theirs.take(case, attempt, named);
            if let Err(why) = self.attempt(attempt, entry) {
                self.wrong.push(format!("{why}\n  ours   {attempt:?}\n  theirs {entry:?}"));
            }
        }
    }

    fn attempt(&mut self, ours: &AttemptRecord, theirs: Option<&Entry>) -> Result<(), String> {
        let Some(theirs) = theirs else { return self.alone(ours) };
        if theirs.model != ours.model {
            return Err("another model".to_owned());
        }
        match ours.certainty {
            Certainty::Exact if matches!(theirs.fate, Fate::Status(_)) => self.free += 1,
            Certainty::Exact => self.exact += 1,
            Certainty::Unpriced if ours.usage == theirs.billed => self.unpriced += 1,
            Certainty::Unpriced | Certainty::Estimated => return self.estimate(ours, theirs),
        }
        if ours.usage != theirs.billed {
            return Err("tokens differ".to_owned());
        }
        if cost(&ours.model, &theirs.billed).unwrap_or(Money::ZERO) != ours.cost {
            return Err("pico-dollars differ".to_owned());
        }
        Ok(())
    }

    /// An attempt that no provider knows.
    fn alone(&mut self, ours: &AttemptRecord) -> Result<(), String> {
        if ours.status != 0 {
            return Err("no provider knows this attempt".to_owned());
        }
        if ours.usage.total_tokens() == 0 && ours.cost == Money::ZERO {
            self.unsent += 1;
            return Ok(());
        }
        // It was on its way when the client left, the time was over or the connection was closed.
        self.unseen += 1;
        let expected = ["client_gone", "deadline_exceeded", "provider_timeout", "provider_unreachable", "hedge_lost"];
        match ours.error.as_deref() {
            Some(error) if expected.contains(&error) => Ok(()),
            _ => Err("billed, and no provider knows it".to_owned()),
        }
    }

    fn estimate(&mut self, ours: &AttemptRecord, theirs: &Entry) -> Result<(), String> {
        // What came too late was not waited for; nor is a figure that a client's leaving cut off.
        let late = ["client_gone", "hedge_lost", "deadline_exceeded", "provider_timeout"];
        let late = ours.error.as_deref().is_some_and(|error| late.contains(&error));
        if theirs.told && !late {
            return Err("the provider had told its figure".to_owned());
        }
        self.missed += u64::from(theirs.told);
        self.estimated += 1;
        let (prompt, billed) = (ours.usage.prompt_tokens(), theirs.billed.prompt_tokens());
        self.estimated_tokens[0] += ours.usage.total_tokens();
        self.estimated_tokens[1] += theirs.billed.total_tokens();
        // A provider that had not begun when it was left bills nothing; we can't know.
        if billed > 0 {
            if billed >= LARGE {
                self.worst_prompt = self.worst_prompt.max(100.0 * prompt.abs_diff(billed) as f64 / billed as f64);
            }
            within(prompt, billed, PROMPT_BOUND).map_err(|why| format!("the prompt {why}"))?;
        }
        let (answer, billed) = (ours.usage.output, theirs.billed.output);
        if ours.first_token_ms.is_some() && billed > 0 {
            let near = within(answer, billed, ANSWER_BOUND);
            if near.is_err() && late && answer < billed {
                self.unread += 1;
                return Ok(());
            }
            self.worst_answer = self.worst_answer.max(answer.abs_diff(billed));
            return near.map_err(|why| format!("the answer {why}"));
        }
        // What was never read is not estimated: such a figure is a lower bound. An answer in one piece that broke off counts as
        // what came of it, its frame included.
        let most = billed.max(estimate_tokens(theirs.written)) + 1;
        if answer > most { Err(format!("more than the {most} tokens that came")) } else { Ok(()) }
    }

    /// What a client was told is what is booked.
    fn told(&mut self, seen: &Seen, record: Option<&RequestRecord>) {
        let Some(status) = seen.status else { return };
        let Some(record) = record else {
            return self.wrong.push(format!("answered and not booked: {seen:?}"));
        };
        if seen.whole && record.status != status {
            self.wrong.push(format!("another status: {seen:?}, booked {record:?}"));
        }
        let Some((cost, certainty)) = &seen.cost else { return };
        let certainties: Vec<Certainty> = record.attempts.iter().map(|attempt| attempt.certainty).collect();
        let expected = [Certainty::Unpriced, Certainty::Estimated].into_iter().find(|it| certainties.contains(it));
        let expected = expected.unwrap_or(Certainty::Exact);
        let booked = (expected != Certainty::Unpriced).then(|| record.cost().decimal());
        if (cost, certainty.as_str()) == (&booked, expected.as_str()) {
            self.told_costs += 1;
        } else {
            self.wrong.push(format!("another cost: {seen:?}, booked {booked:?} {expected:?}: {record:?}"));
        }
    }
}

fn within(ours: u64, theirs: u64, (share, more): (f64, f64)) -> Result<(), String> {
    let off = ours.abs_diff(theirs) as f64;
    let bound = share * theirs as f64 + more;
    if off <= bound { Ok(()) } else { Err(format!("is off by {off}, beyond {bound:.1}")) }
}
