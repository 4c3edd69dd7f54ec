//! The commands. Printing is allowed here and nowhere else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line speaks through its output")]

mod check;
mod demo;
mod files;
mod first_start;
mod health;
mod logging;
mod memory;
mod serve;
mod signals;
mod simulate;
mod store;
mod token;
mod upgrade;
mod vault;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use perpetuo::config::Config;

/// An LLM gateway: one OpenAI-compatible URL in front of every provider.
#[derive(Parser)]
#[command(name = "perpetuo", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::Args),
    /// Replace the running gateway by this program; no connection is refused, no stream is cut.
    Upgrade(upgrade::Args),
    /// Ask the running gateway whether it is ready; for health checks where there is no curl.
    Health(health::Args),
    /// Check the configuration and the catalogue; print every mistake.
    Check(check::Args),
    /// Print a token for the admin API.
    Token(token::Args),
    /// Check the store on disk, or make it anew from its journal.
    Store(store::Args),
    /// Change the master key that seals what the store keeps secret.
    Vault(vault::Args),
    /// Show everything with simulated providers: no key, no network.
    Demo(demo::Args),
    /// Run the simulated providers alone.
    Simulate(simulate::Args),
}

/// The configuration that is used when none is named.
const DEFAULT_CONFIG: &str = "conf/perpetuo.toml";

/// Whatever ends a command, as the text for the user.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs the command of this process.
pub(super) fn run() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(error) = memory::keep_private() {
        eprintln!("perpetuo: what is in memory can't be kept from core dumps and debuggers: {error}");
    }
    let outcome = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Vault(args) => vault::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    };
    logging::finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perpetuo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration: the named file, or the default one where it exists.
fn load(path: Option<&PathBuf>) -> Result<Config, Box<dyn std::error::Error>> {
    let default = Path::new(DEFAULT_CONFIG);
    let path = path.map(PathBuf::as_path).or_else(|| default.exists().then_some(default));
    // A variable that is no text can't be one of ours.
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(path, env).map_err(|problems| problems.to_string().into())
}
