//! `perpetuo simulate`: the simulated providers alone, for trying a client or a gateway against them.

use std::net::SocketAddr;

use clap::Args as ClapArgs;
use perpetuo::simulator::demo::DemoProviders;

use super::Outcome;

/// Arguments of `simulate`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Where the simulated OpenAI listens.
    #[arg(long, default_value = "127.0.0.1:4001")]
    openai: SocketAddr,
    /// Where the simulated Groq listens; it fails every other request.
    #[arg(long, default_value = "127.0.0.1:4002")]
    groq: SocketAddr,
    /// Where the simulated Anthropic listens.
    #[arg(long, default_value = "127.0.0.1:4003")]
    anthropic: SocketAddr,
}

/// Runs them until Ctrl-C.
pub(super) fn run(args: &Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let providers = DemoProviders::start_at([args.openai, args.groq, args.anthropic]).await?;
        for (provider, base_url) in providers.base_urls() {
            println!("{provider:<10} {base_url}");
        }
        println!("A model name that contains sim-429, sim-500, sim-hang, sim-reset, sim-truncate, sim-slow or sim-error-event makes them misbehave.");
        tokio::signal::ctrl_c().await?;
        Ok(())
    })
}
