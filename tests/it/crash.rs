//! `kill -9` at random points under load, again and again: the store opens every time, nothing that was acknowledged is
//! missing, nothing is there twice, and the totals are the sum of the records.
//!
//! A few rounds in every run; `PERPETUO_CRASHES=200 cargo test --test it crash -- --nocapture` for more (of each
//! kind), and for what was checked. With `durability = "sync"` a whole
//! answer is an acknowledgement; with `"batch"` what a report showed before the kill is one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perpetuo::simulator::Behaviour;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::process::{Furnished, hello, text};

fn rounds() -> u32 {
    std::env::var("PERPETUO_CRASHES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4)
}

/// Ids of requests whose answer came whole.
type Answered = Arc<Mutex<BTreeSet<String>>>;

/// Asks, every third time for a stream, until the gateway is gone.
async fn client(url: String, key: String, stop: Arc<AtomicBool>, answered: Answered) {
    let client = reqwest::Client::new();
    for turn in 0.. {
        let mut body = hello("openai/gpt-4o");
        body["stream"] = (turn % 3 == 0).into();
        let Ok(answer) = client.post(&url).bearer_auth(&key).json(&body).send().await else { return };
        let Some(id) = answer.headers().get("x-request-id").map(|id| id.to_str().unwrap().to_owned()) else { return };
        let Ok(body) = answer.text().await else { return };
        if body.ends_with('}') || body.ends_with("data: [DONE]\n\n") {
            answered.lock().unwrap().insert(id);
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// What was found in the ledger so far.
#[derive(Default)]
struct Found {
    /// The last line that was read.
    cursor: u64,
    ids: BTreeSet<String>,
    tokens: u64,
}

impl Found {
    /// Reads what came after the last time; nothing may be there twice.
    async fn go_on(&mut self, gateway: &Furnished) {
        let path = format!("/workspaces/{}/logs/export?cursor={}", gateway.workspace, self.cursor);
        let answer =
            reqwest::Client::new().get(gateway.site.url(&path)).bearer_auth(&gateway.token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        for line in answer.text().await.unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let cursor = record["cursor"].as_str().unwrap().parse().unwrap();
            assert!(cursor > self.cursor, "cursors rise");
            self.cursor = cursor;
            self.tokens += record["tokens"].as_u64().unwrap();
            assert!(self.ids.insert(record["request_id"].as_str().unwrap().to_owned()), "there twice: {line}");
        }
    }
}

/// Kills and starts again; what was acknowledged before must be there after.
#[expect(clippy::print_stdout, reason = "what was checked is the result of a long run")]
async fn crash_loop(durability: &str, seed: u64) {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut gateway = Furnished::start_with(
        Behaviour::new("openai").remember(0),
        &format!("[meter]\ndurability = \"{durability}\"\n"),
    )
    .await;
    let answered = Answered::default();
    let (mut known, mut found) = (BTreeSet::new(), Found::default());
    let mut starts = Duration::ZERO;
    for round in 0..rounds() {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..6)
            .map(|_| {
                let url = gateway.site.url("/v1/chat/completions");
                tokio::spawn(client(url, gateway.key.clone(), Arc::clone(&stop), Arc::clone(&answered)))
            })
            .collect();
        // The moment of the crash is what is varied here; nothing is awaited by it.
        tokio::time::sleep(Duration::from_millis(random.random_range(5..250))).await;
        if durability == "batch" {
            let mut shown = Found { cursor: found.cursor, ..Found::default() };
            shown.go_on(&gateway).await;
            known.extend(shown.ids);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
        gateway.process.kill_9();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        if durability == "sync" {
            known.extend(answered.lock().unwrap().iter().cloned());
        }
        let start = Instant::now();
        gateway.process = gateway.site.serve().await;
        starts += start.elapsed();
        found.go_on(&gateway).await;
        let missing: Vec<_> = known.difference(&found.ids).collect();
        assert!(missing.is_empty(), "round {round}: acknowledged and gone: {missing:?}");
        assert_eq!(
            gateway.usage().await["total_tokens"],
            found.tokens,
            "round {round}: totals are the sum of the records"
        );
    }
    assert!(!known.is_empty());
    let mut all = Found::default();
    all.go_on(&gateway).await;
    assert!(all.ids == found.ids && all.tokens == found.tokens, "what was read in parts is what is there");
    gateway.process.kill_9();
    let output = gateway.site.run(&["store", "verify"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    println!(
        "{durability}: {} kills; {} acknowledged requests, each of them there once; {} records, whose {} tokens are the totals; \
         {:.0} ms to start on average; the store is whole",
        rounds(),
        known.len(),
        all.ids.len(),
        all.tokens,
        starts.as_secs_f64() * 1e3 / f64::from(rounds()),
    );
}

/// `kill -9` at random moments: the store opens, nothing that a report showed is lost, nothing is there twice.
#[tokio::test(flavor = "multi_thread")]
async fn fault_71_kill_9() {
    crash_loop("batch", 1).await;
}

/// The same with `durability = "sync"`: every answer that was whole is in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn fault_71_kill_9_with_sync() {
    crash_loop("sync", 2).await;
}

/// A damaged store is refused with what to do, and that brings the bill back; nothing is deleted in silence.
#[tokio::test(flavor = "multi_thread")]
async fn fault_73_damaged_store() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    for _ in 0..3 {
        gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().text().await.unwrap();
    }
    let bill = gateway.usage().await;
    gateway.process.kill_9();
    let rows = gateway.site.data_dir().join("store/state/db");
    let length = std::fs::metadata(&rows).unwrap().len() as usize;
    std::fs::write(&rows, vec![0xA5; length]).unwrap();
    for arguments in [&["serve"][..], &["store", "verify"]] {
        let refused = gateway.site.run(arguments);
        assert!(!refused.status.success(), "{arguments:?}");
        assert!(text(&refused.stderr).contains("perpetuo store rebuild"), "{}", text(&refused.stderr));
    }
    let rebuilt = gateway.site.run(&["store", "rebuild"]);
    assert!(rebuilt.status.success(), "{}{}", text(&rebuilt.stdout), text(&rebuilt.stderr));
    gateway.process = gateway.site.serve().await;
    assert_eq!(gateway.usage().await, bill);
    let in_use = gateway.site.run(&["store", "rebuild"]);
    assert!(text(&in_use.stderr).contains("in use by another process"), "{}", text(&in_use.stderr));
}

/// A journal whose end is damaged, by a cut or by what was never written, is read up to there, and the gateway starts; the log says so
/// and nothing that was booked before is lost.
#[tokio::test(flavor = "multi_thread")]
async fn fault_73_bad_tail() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    for _ in 0..3 {
        gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().text().await.unwrap();
    }
    let bill = gateway.usage().await;
    for garbage in [&b"\0\0\0\0\0\0\0\0"[..], &[0xA5; 100], b"half a record"] {
        gateway.process.kill_9();
        let newest = newest_segment(&gateway.site.data_dir().join("store"));
        let mut file = std::fs::OpenOptions::new().append(true).open(&newest).unwrap();
        std::io::Write::write_all(&mut file, garbage).unwrap();
        drop(file);
        gateway.process = gateway.site.serve().await;
        assert_eq!(gateway.usage().await, bill, "{garbage:?} at the end of {}", newest.display());
    }
    let answer = gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// The file of the journal that was written last.
fn newest_segment(store: &std::path::Path) -> std::path::PathBuf {
    let journal = std::fs::read_dir(store.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    journal
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .max_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap())
        .unwrap()
}
