//! `perpetuo vault`: changes the master key that seals what the store keeps secret. The gateway must not be running.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;
use perpetuo::directory::rotate::{Rotated, rotate};
use perpetuo::proxy::{self, store_dir};
use perpetuo::store::sled::SledStore;

use super::{Outcome, load};

/// Arguments of `vault`.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Seal everything with the configuration's master key that one of its old_master_keys sealed. It can be stopped at any point
    /// and run again.
    Rotate(Rotate),
}

#[derive(ClapArgs)]
struct Rotate {
    /// The configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The fingerprint of a master key that is lost for good: what it sealed is ended.
    #[arg(long, value_name = "FINGERPRINT")]
    give_up: Option<String>,
}

/// Rotates.
pub(super) fn run(args: &Args) -> Outcome {
    let Action::Rotate(Rotate { config, give_up }) = &args.action;
    let config = load(config.as_ref())?;
    let dir = store_dir(&config);
    if !dir.is_dir() {
        return Err(format!("There is no store at {}.", dir.display()).into());
    }
    let store = SledStore::open(&dir)?;
    let (vault, keys) = proxy::vault(&config)?;
    let rotated = rotate(&store, &vault, &keys, give_up.as_deref(), Timestamp::now())?;
    tell(&rotated, vault.newest_id())
}

fn tell(rotated: &Rotated, master: &str) -> Outcome {
    let Rotated { resealed, kept, given_up, unreadable } = rotated;
    println!("{resealed} secrets are sealed with the master key {master} now, {kept} were already.");
    if *given_up > 0 {
        println!("{given_up} are given up: provider keys to be given again, virtual keys to be made anew.");
    }
    if unreadable.is_empty() {
        println!("Nothing in the store needs another master key. Backups may.");
        return Ok(());
    }
    unreadable.iter().for_each(|what| println!("- {what}"));
    Err(format!("{} secrets could not be opened and are as they were.", unreadable.len()).into())
}
