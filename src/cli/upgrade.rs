//! `perpetuo upgrade`: this program in the place of the running gateway.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use perpetuo::handover::{replace, socket_path};

use super::{Outcome, load};

/// Arguments of `upgrade`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// The configuration file, by which the running gateway is found.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The program to run instead of this one.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Has the running gateway start the program, and waits until that serves.
pub(super) fn run(args: &Args) -> Outcome {
    let config = load(args.config.as_ref())?;
    let program = match &args.program {
        Some(program) => std::path::absolute(program)?,
        None => std::env::current_exe()?,
    };
    let process = replace(&socket_path(&config.data_dir), program)?;
    println!("Process {process} serves now; the one before finishes what it began.");
    Ok(())
}
