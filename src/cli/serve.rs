//! `perpetuo serve`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use perpetuo::proxy::{self, Gateway};

use super::{Outcome, first_start, load, logging, signals};

/// Arguments of `serve`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Opens the gateway and serves until a signal ends it.
pub(super) fn run(args: &Args) -> Outcome {
    let config = load(args.config.as_ref())?;
    logging::start(&config.log);
    proxy::check_listeners(&config)?;
    let gateway = Gateway::open(config)?;
    first_start::run(&gateway)?;
    let path = args.config.clone();
    let reloading = Arc::clone(&gateway);
    let signals = signals::Process::new(move || reload(&reloading, path.as_ref()));
    proxy::serve(&gateway, signals);
    Ok(())
}

/// A bad file is refused whole and the old configuration stays.
fn reload(gateway: &Gateway, path: Option<&PathBuf>) {
    match gateway.reload(|| load(path)) {
        Ok(()) => {
            logging::reload(&gateway.config().log);
            tracing::info!("configuration reloaded");
        }
        Err(problems) => tracing::error!(%problems, "configuration refused; the old one stays"),
    }
}
