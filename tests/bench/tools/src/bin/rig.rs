//! The provider and the clients of a benchmark, in one process: so that a provider can send an event when the client has the one
//! before, and what a proxy reads does not depend on how quick it is.
//!
//! `rig PROVIDER_ADDRESS`; then one JSON object per line on standard input (`clients::Job`), and one per line as its answer
//! (`clients::Report`). Not here: which jobs there are, and what a proxy costs (`tests/bench/run`).

use std::rc::Rc;

use bench_tools::{clients, provider, steps::Steps};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    LocalSet::new().run_until(run()).await
}

async fn run() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let steps = Rc::new(Steps::default());
    tokio::task::spawn_local(provider::serve(listener, Rc::clone(&steps)));
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let job: clients::Job = serde_json::from_str(&line)?;
        let report = clients::run(Rc::new(job), Rc::clone(&steps)).await;
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Standard input, read by a thread of its own: the provider must not wait for it.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
