//! `perpetuo serve`, alone or in the place of a running gateway.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use perpetuo::catalog::Catalog;
use perpetuo::config::Config;
use perpetuo::handover::{Predecessor, Relay, socket_path};
use perpetuo::proxy::{self, Gateway, Listeners, Takeover, store_dir};
use perpetuo::store::Store;
use perpetuo::store::sled::SledStore;

use super::{Outcome, files, first_start, load, logging, signals};

/// How long whoever reads the store may hold up its closing at the end.
const CLOSING: Duration = Duration::from_secs(1);

/// Arguments of `serve`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Take over from the gateway that runs over the same data directory, if there is one. `perpetuo upgrade` does that for you.
    #[arg(long)]
    upgrade: bool,
}

/// Opens the gateway and serves until a signal ends it.
pub(super) fn run(args: &Args) -> Outcome {
    let config = load(args.config.as_ref())?;
    let room = files::make_room(config.limits.max_connections);
    logging::start(&config.log);
    if let Err(error) = room {
        tracing::warn!(%error, "no room for the open files of all connections could be made beforehand");
    }
    let (predecessor, sockets) = if args.upgrade { call(&config)? } else { (None, Vec::new()) };
    let listeners = Arc::new(Listeners::inherit(&config, sockets)?);
    let socket = socket_path(&config.data_dir);
    let (mut predecessor, gateway, relay) = open(config, predecessor)?;
    if let Some(predecessor) = &mut predecessor {
        predecessor.opened(listeners.addresses())?;
        tracing::info!("serving in the place of another process, which finishes what it began");
    }
    let takeover = Takeover::open(&gateway, &relay, &listeners, socket, starter(args.config.clone()));
    if let Some(predecessor) = predecessor {
        takeover.hear(predecessor);
    }
    let (reloading, path) = (Arc::clone(&gateway), args.config.clone());
    let (replaced, program) = (Arc::clone(&takeover), own_program());
    let signals = signals::Process::new(
        move || reload(&reloading, path.as_ref()),
        move || upgrade(&replaced, program.as_deref()),
    );
    proxy::serve(&gateway, &listeners, signals)?;
    takeover.close();
    if let Err(error) = relay.close(CLOSING) {
        tracing::debug!(%error, "the store was not closed");
    }
    Ok(())
}

/// The running gateway, where there is one, and its listening sockets.
fn call(config: &Config) -> Result<(Option<Predecessor>, Vec<std::net::TcpListener>), perpetuo::error::Error> {
    let called = Predecessor::call(&socket_path(&config.data_dir))?;
    Ok(called.map_or((None, Vec::new()), |(predecessor, sockets)| (Some(predecessor), sockets)))
}

type Opened = (Option<Predecessor>, Arc<Gateway>, Arc<Relay>);

/// Opens the store and the gateway over it, once a running gateway has closed the store. What can fail before is tried before.
fn open(config: Config, mut predecessor: Option<Predecessor>) -> Result<Opened, Box<dyn std::error::Error>> {
    if let Some(predecessor) = &mut predecessor {
        Catalog::load(config.models.as_deref()).map_err(|problems| problems.to_string())?;
        proxy::jwt_secret(&config)?;
        predecessor.release()?;
    }
    let opened = open_store(&config).and_then(|relay| {
        let gateway = Gateway::with_store(config, Arc::clone(&relay) as Arc<dyn Store>)?;
        first_start::run(&gateway)?;
        Ok((gateway, relay))
    });
    match opened {
        Ok((gateway, relay)) => Ok((predecessor, gateway, relay)),
        Err(error) => {
            predecessor.iter_mut().for_each(|predecessor| predecessor.failed(&error));
            Err(error.into())
        }
    }
}

fn open_store(config: &Config) -> Result<Arc<Relay>, perpetuo::error::Error> {
    let dir = store_dir(config);
    let open = move || -> perpetuo::error::Result<Arc<dyn Store>> { Ok(Arc::new(SledStore::open(&dir)?)) };
    Ok(Arc::new(Relay::open(Arc::new(open))?))
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

/// Starts another program as this one was started, to take over.
fn starter(config: Option<PathBuf>) -> proxy::Start {
    Box::new(move |program: &Path| {
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--upgrade".into()];
        if let Some(config) = &config {
            arguments.extend(["--config".into(), config.into()]);
        }
        Command::new(program).args(arguments).spawn()
    })
}

/// The path of this program as it was called, through links if there are some, so that a newer one is found there later.
fn own_program() -> Option<PathBuf> {
    let called = std::env::args_os().next().map(PathBuf::from).filter(|path| path.components().count() > 1);
    called.and_then(|path| std::path::absolute(path).ok()).or_else(|| std::env::current_exe().ok())
}

/// Upgrades to what lies at this program's path now, in a thread of its own.
fn upgrade(takeover: &Arc<Takeover>, program: Option<&Path>) {
    let (takeover, Some(program)) = (Arc::clone(takeover), program.map(Path::to_owned)) else { return };
    std::thread::spawn(move || {
        let answer = takeover.replace(&program);
        tracing::info!(?answer, "an upgrade by signal is over");
    });
}
