//! `perpetuo store`: checks the store on disk, and makes tenants and sums anew. The gateway must not be running.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use perpetuo::proxy::store_dir;
use perpetuo::store::rebuild::{self, Rebuilt};
use perpetuo::store::verify::{self, Report};

use super::{Outcome, load};

/// Arguments of `store`.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Read the whole store and compare its parts; change nothing.
    Verify(Place),
    /// Mend the journal where it is damaged and make everything else anew from it; keep what is replaced.
    Rebuild(Place),
}

#[derive(ClapArgs)]
struct Place {
    /// The configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Checks or rebuilds.
pub(super) fn run(args: &Args) -> Outcome {
    match &args.action {
        Action::Verify(place) => tell(&verify::verify(&store_dir(&load(place.config.as_ref())?))?),
        Action::Rebuild(place) => {
            let dir = store_dir(&load(place.config.as_ref())?);
            tell_rebuilt(&rebuild::rebuild(&dir)?);
            tell(&verify::verify(&dir)?)
        }
    }
}

fn tell(report: &Report) -> Outcome {
    println!(
        "{} entries, {} of them requests, in {} segments ({} bytes); {} tenants and sums compared.",
        report.entries, report.requests, report.segments, report.bytes, report.rows
    );
    if report.lost > 0 {
        println!("{} entries are lost for good: their segment was damaged.", report.lost);
    }
    if report.problems.is_empty() {
        println!("The store is whole.");
        return Ok(());
    }
    report.problems.iter().for_each(|problem| println!("- {problem}"));
    Err("The store is damaged. `perpetuo store rebuild` goes on with everything that can be read.".into())
}

fn tell_rebuilt(rebuilt: &Rebuilt) {
    for segment in &rebuilt.mended {
        println!("Mended: {segment}; what it was is kept as .damaged.");
    }
    for lost in &rebuilt.lost {
        println!("Lost for good: {lost}");
    }
    for aside in &rebuilt.aside {
        println!("What was there is now at {}.", aside.display());
    }
    println!("Made anew from {} entries, and from what is kept of those before.", rebuilt.entries);
}
