//! Candidates for simulated providers: real credentials out of a directory in memory, at addresses that nobody asks.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use perpetuo::balance::group::Group;
use perpetuo::balance::stats::StatsBook;
use perpetuo::balance::{Candidate, Place};
use perpetuo::catalog::{Prices, Rates};
use perpetuo::config::Secret;
use perpetuo::directory::{CredentialChange, Directory, WorkspaceChange};
use perpetuo::money::Money;
use perpetuo::store::memory::MemoryStore;
use perpetuo::vault::{MasterKey, Vault, VirtualKeys};

use crate::provider::Provider;

pub(crate) async fn group(providers: &[Provider]) -> Group {
    let master = || MasterKey::from_text(&"ab".repeat(32)).expect("a master key");
    let keys = VirtualKeys::new(&master()).expect("keys");
    let store = Arc::new(MemoryStore::default());
    let directory = Directory::open(store, Vault::new(master()), keys).expect("a directory");
    let (now, name) = (Timestamp::UNIX_EPOCH, Some("bench".to_owned()));
    let workspace = directory.create_workspace(WorkspaceChange { name, ..WorkspaceChange::default() }, now);
    let workspace = workspace.expect("a workspace").id.clone();
    let book = StatsBook::default();
    let candidates: Vec<_> = providers
        .iter()
        .enumerate()
        .map(|(slot, provider)| {
            let api_key = Some(Secret::new("a-simulated-key"));
            let change = CredentialChange { api_key, ..CredentialChange::default() };
            let credential = directory.create_credential(&workspace, "openai", change, now).expect("a credential");
            let (input, output) = provider.price;
            let base = Rates {
                input: Money::per_token(input).expect("a price"),
                output: Money::per_token(output).expect("a price"),
                cached_read: Money::per_token(input / 10.0),
                ..Rates::default()
            };
            let prices = Arc::new(Prices::flat(base).into());
            // Each its own model, as different providers have it: another tokenizer.
            let model = format!("model-{slot}");
            Candidate::new(Place { slot, rank: 0, revision: 1 }, "model", credential, model, Some(prices), &book)
        })
        .collect();
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 9)); candidates.len()];
    Group::at(1, candidates, addresses).await.expect("a group")
}
