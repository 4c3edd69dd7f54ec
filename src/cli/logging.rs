//! Where log lines go: to standard error, as text on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use perpetuo::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging for this process. Pingora's own lines come through the `log` facade and are kept to warnings.
pub(super) fn start(log: &Log) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("warn,perpetuo={}", log.level)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    if json { builder.json().init() } else { builder.init() }
}
