//! `perpetuo check`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use perpetuo::catalog::Catalog;

use super::{Outcome, load};

/// Arguments of `check`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Prints every mistake at once, or that there is none.
pub(super) fn run(args: &Args) -> Outcome {
    let config = load(args.config.as_ref())?;
    Catalog::load(config.models.as_deref()).map_err(|problems| problems.to_string())?;
    println!("The configuration is valid.");
    Ok(())
}
