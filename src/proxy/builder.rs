//! From a configuration to a gateway: what is opened once, and what a reload makes anew.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::attempt::Attempts;
use super::collector;
use super::connections::Connections;
use super::grants::Grants;
use super::operations::Operations;
use super::strikes::Strikes;
use super::upstream::Upstream;
use super::{Gateway, Snapshot};
use crate::admin::auth::Jwt;
use crate::admin::{self, AdminState};
use crate::balance::budget::Budgets;
use crate::balance::discovery::{self, Lookup, Resolver};
use crate::balance::plan::Planner;
use crate::balance::stats::StatsBook;
use crate::catalog::Catalog;
use crate::config::{Config, Durability, Secret};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::live::Table;
use crate::meter::{Meter, MeterOptions};
use crate::metrics::Metrics;
use crate::shed::Load;
use crate::store::Store;
use crate::store::sled::SledStore;
use crate::telemetry::Telemetry;
use crate::vault::{MasterKey, Vault, VirtualKeys};

/// The name of the store in `data_dir`.
const STORE: &str = "store";
/// The name of the master key in `data_dir`.
const MASTER_KEY: &str = "master.key";

/// Where the store of this configuration lies.
pub fn store_dir(config: &Config) -> PathBuf {
    config.data_dir.join(STORE)
}

/// What outlives a reload.
pub(super) struct Lasting {
    connections: Arc<Connections>,
    lookup: Arc<dyn Lookup>,
    pub(super) directory: Arc<Directory>,
    pub(super) store: Arc<dyn Store>,
    pub(super) meter: Meter,
    pub(super) stats: Arc<StatsBook>,
    pub(super) load: Arc<Load>,
    pub(super) budgets: Budgets,
    pub(super) telemetry: Telemetry,
    pub(super) live: Arc<Table>,
    pub(super) strikes: Strikes,
}

impl Gateway {
    /// Forgets the experience with credentials and workspaces that are gone.
    pub fn forget_the_gone(&self) {
        let all = self.lasting.directory.workspaces();
        let revisions: HashMap<&str, u64> = all.iter().map(|one| (one.id.as_str(), one.revision)).collect();
        let credentials = all.iter().flat_map(|one| &one.credentials).map(|credential| credential.id.as_str());
        self.lasting.stats.keep(&credentials.collect(), &revisions.keys().copied().collect());
        self.snapshot.load().planner.keep(&revisions);
    }

    /// Opens a gateway with its store in `data_dir`.
    ///
    /// Errors: a store that can't be opened, a master key that can't be read, a catalogue with mistakes; all say what to do.
    pub fn open(config: Config) -> Result<Arc<Self>> {
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&store_dir(&config))?);
        Self::with_store(config, store)
    }

    /// Opens a gateway over a store of the caller's.
    pub fn with_store(config: Config, store: Arc<dyn Store>) -> Result<Arc<Self>> {
        Self::with_lookup(config, store, discovery::system())
    }

    /// The same where addresses of providers do not come from the system's resolver.
    pub fn with_lookup(config: Config, store: Arc<dyn Store>, lookup: Arc<dyn Lookup>) -> Result<Arc<Self>> {
        let (vault, keys) = vault(&config)?;
        let directory = Directory::open(Arc::clone(&store), vault, keys)?;
        directory.recall_spending(Timestamp::now().to_zoned(TimeZone::UTC).date())?;
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::register(&registry)?);
        let meter = Meter::start(Arc::clone(&store), Arc::clone(&metrics), meter_options(&config))?;
        let telemetry = Telemetry::open(&config, &metrics, collector::dial)?;
        let lasting = Lasting {
            connections: Arc::new(Connections::new(&config)),
            lookup,
            directory: Arc::new(directory),
            store,
            meter,
            stats: Arc::default(),
            load: Arc::default(),
            budgets: Budgets::default(),
            telemetry,
            live: Arc::default(),
            strikes: Strikes::default(),
        };
        let started = Instant::now();
        let snapshot = snapshot(config, &lasting, &metrics, started)?;
        metrics.process.started_with(unix_now());
        Ok(Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            lasting,
            metrics,
            registry,
            started,
            life: Arc::default(),
            halt: watch::Sender::new(false),
            watched: OnceLock::new(),
            reading: Mutex::default(),
        }))
    }

    /// Replaces the configuration by what `load` gives; running requests keep the one they began with. Counted either way, and
    /// either way the access log's file is opened anew.
    ///
    /// Errors: `load`'s, or as `open`; then the old configuration stays.
    pub fn reload<E: From<Error>>(&self, load: impl FnOnce() -> Result<Config, E>) -> Result<(), E> {
        self.lasting.telemetry.reopen();
        let loaded = load().and_then(|config| {
            let snapshot = snapshot(config, &self.lasting, &self.metrics, self.started)?;
            self.lasting.telemetry.apply(&snapshot.config)?;
            Ok(snapshot)
        });
        self.metrics.process.reloaded(loaded.is_ok(), unix_now());
        self.snapshot.store(Arc::new(loaded?));
        Ok(())
    }

    /// The configuration that new requests get.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.snapshot.load().config)
    }

    /// The tenants.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.lasting.directory)
    }

    /// Waits until everything that was booked is on disk.
    pub fn flush(&self) {
        self.lasting.meter.flush();
    }
}

/// Seconds since 1970.
fn unix_now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

fn snapshot(config: Config, lasting: &Lasting, metrics: &Arc<Metrics>, started: Instant) -> Result<Snapshot> {
    let catalog = Catalog::load(config.models.as_deref()).map_err(Error::internal)?;
    let guard = Arc::new(Guard::new(config.security.allow_private_upstreams.iter().cloned()));
    let resolver = Arc::new(Resolver::over(Arc::clone(&guard), Arc::clone(&lasting.lookup)));
    let catalog = Arc::new(catalog);
    let planner = Arc::new(Planner::new(Arc::clone(&catalog), Arc::clone(&resolver), Arc::clone(&lasting.stats)));
    let attempts = Arc::new(Attempts {
        upstream: Upstream::new(Arc::clone(&lasting.connections), config.timeouts.clone(), Some(Arc::clone(metrics))),
        grants: Grants::default(),
        resolver,
        timeouts: config.timeouts.clone(),
        limits: config.limits.clone(),
    });
    let config = Arc::new(config);
    let operations = Operations {
        config: Arc::clone(&config),
        planner: Arc::clone(&planner),
        attempts: Arc::clone(&attempts),
        started,
    };
    let admin = admin::router(AdminState {
        directory: Arc::clone(&lasting.directory),
        store: Arc::clone(&lasting.store),
        meter: lasting.meter.clone(),
        upstream: Arc::new(operations),
        live: Arc::clone(&lasting.live),
        jwt: Arc::new(Jwt::new(&jwt_secret(&config)?, &config.jwt.issuer, &config.jwt.audience, config.jwt.max_ttl)),
        now: Timestamp::now,
    });
    lasting.directory.set_guard(guard);
    metrics.configure(catalog, &config.metrics);
    Ok(Snapshot { config, directory: Arc::clone(&lasting.directory), planner, attempts, admin })
}

/// Bookings of one commit: enough for a burst, small enough to be committed in a few milliseconds.
const MAX_BATCH: usize = 512;

fn meter_options(config: &Config) -> MeterOptions {
    let sync = config.meter.durability == Durability::Sync;
    // Answers that wait share a commit with those that came during the one before; gathering would only hold them up.
    let batch = if sync { Duration::ZERO } else { config.meter.batch };
    MeterOptions { queue: config.meter.queue, batch, max_batch: MAX_BATCH, sync }
}

/// The master keys of this configuration, as what they are for: sealing, and the hashes of virtual keys.
///
/// Errors: one of them can't be read, or made.
pub fn vault(config: &Config) -> Result<(Vault, VirtualKeys)> {
    let master = master_key(config)?;
    let keys = VirtualKeys::new(&master)?;
    config.security.old_master_keys.iter().try_fold((Vault::new(master), keys), |(vault, keys), old| {
        let old = MasterKey::from_text(old.expose())?;
        let keys = keys.with_older(&old)?;
        Ok((vault.with_older(old), keys))
    })
}

fn master_key(config: &Config) -> Result<MasterKey> {
    match &config.security.master_key {
        Some(secret) => MasterKey::from_text(secret.expose()),
        None => MasterKey::from_file_or_create(&config.data_dir.join(MASTER_KEY)),
    }
}

/// The secret that signs admin tokens: the configuration's, or one derived from the master key.
///
/// Errors: as for the master key, which is made on first use.
pub fn jwt_secret(config: &Config) -> Result<Secret> {
    match &config.jwt.hs256_secret {
        Some(secret) => Ok(secret.clone()),
        None => master_key(config)?.secret("perpetuo admin tokens"),
    }
}
