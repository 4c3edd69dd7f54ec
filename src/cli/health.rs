//! `perpetuo health`: asks the running gateway whether it is ready, for images without a shell.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::{Outcome, load};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than any answer has.
const MAX_ANSWER: u64 = 64 * 1024;

/// Arguments of `health`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// The configuration file, which names the address.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Only whether it is alive: it may be draining.
    #[arg(long)]
    live: bool,
}

/// Prints what the gateway says of itself. Fails unless that is good.
pub(super) fn run(args: &Args) -> Outcome {
    let config = load(args.config.as_ref())?;
    let path = if args.live { "/health" } else { "/ready" };
    let (head, body) = ask(reachable(config.server.listen), path)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        println!("{body}");
        return Ok(());
    }
    Err(format!("{path} answers {status}: {body}").into())
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.to_owned(), body.trim().to_owned()))
}

/// The address to connect to for one that is listened on.
fn reachable(listened: SocketAddr) -> SocketAddr {
    let ip = match listened.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listened.port())
}
