//! `perpetuo token`: prints a token for the admin API, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use perpetuo::admin::auth::{Jwt, Role};
use perpetuo::config::Config;
use perpetuo::proxy::jwt_secret;

use super::{Outcome, load};

/// Arguments of `token`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// `admin` (every workspace) or `workspace` (those that are named).
    #[arg(long, default_value = "admin")]
    role: String,
    /// A workspace of the role `workspace`; may be given several times.
    #[arg(long)]
    workspace: Vec<String>,
    /// How long the token lives, as `12h` or `30m`.
    #[arg(long, default_value = "12h")]
    ttl: String,
    /// The configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Mints and prints.
pub(super) fn run(args: &Args) -> Outcome {
    let config = load(args.config.as_ref())?;
    let ttl: jiff::SignedDuration =
        args.ttl.parse().map_err(|_| format!("'{}' is not a duration like 12h", args.ttl))?;
    println!("{}", mint(&config, args.role.parse()?, &args.workspace, Duration::try_from(ttl)?)?);
    Ok(())
}

/// A token signed with the configuration's secret.
pub(super) fn mint(
    config: &Config,
    role: Role,
    workspaces: &[String],
    ttl: Duration,
) -> Result<String, perpetuo::error::Error> {
    let jwt = Jwt::new(&jwt_secret(config)?, &config.jwt.issuer, &config.jwt.audience, config.jwt.max_ttl);
    jwt.mint(role, workspaces, ttl, Timestamp::now())
}
