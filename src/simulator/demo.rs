//! The cast of `perpetuo demo`: three simulated providers, and the lines that show what the gateway makes of them.
//!
//! Not here: the gateway in front of them, its configuration, prices and aliases. The lines use names that the shipped
//! catalogue knows: `gpt-4` is OpenAI's first, `groq-fast` Groq's first, each with equivalents elsewhere.
//! Invariant: nothing here needs a key or leaves this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Behaviour, Simulator};
use crate::error::Result;

/// How many requests each of the three remembers; a demo may run for days.
const REMEMBERED: usize = 100;

/// Three running providers, each with a character.
pub struct DemoProviders {
    /// Speaks OpenAI's API and takes its time.
    pub slow: Simulator,
    /// Speaks Groq's API and fails every other request, the first included.
    pub flaky: Simulator,
    /// Speaks Anthropic's API and calls itself cheap.
    pub cheap: Simulator,
}

impl DemoProviders {
    /// Starts all three on free ports of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::start_at([SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 3]).await
    }

    /// Starts them at these addresses: OpenAI's, Groq's, Anthropic's. This is all that the command `simulate` does.
    pub async fn start_at(addresses: [SocketAddr; 3]) -> Result<Self> {
        let [at_slow, at_flaky, at_cheap] = addresses;
        let slow = Behaviour::new("openai")
            .price("slow")
            .latency(Duration::from_millis(600))
            .token_delay(Duration::from_millis(80))
            .tokens(24);
        let flaky = Behaviour::new("groq").price("flaky").flaky(2).token_delay(Duration::from_millis(5)).tokens(16);
        let cheap = Behaviour::new("anthropic").price("cheap").token_delay(Duration::from_millis(20)).tokens(20);
        Ok(Self {
            slow: Simulator::start_at(at_slow, slow.remember(REMEMBERED)).await?,
            flaky: Simulator::start_at(at_flaky, flaky.remember(REMEMBERED)).await?,
            cheap: Simulator::start_at(at_cheap, cheap.remember(REMEMBERED)).await?,
        })
    }

    /// Provider name and the `base_url` to configure for it, in the order in which the demo prefers them.
    pub fn base_urls(&self) -> [(&'static str, String); 3] {
        [
            ("openai", format!("{}/v1", self.slow.url())),
            ("groq", format!("{}/openai/v1", self.flaky.url())),
            ("anthropic", self.cheap.url()),
        ]
    }
}

/// The curl lines that `demo` prints: a completion, a stream, a fallback and the usage. `base` is the gateway's address without
/// a path.
pub fn curl_lines(base: &str, virtual_key: &str, admin_token: &str, workspace: &str) -> String {
    let call = |options: &str, body: &str| {
        format!(
            "curl {options} {base}/v1/chat/completions \\\n  -H 'Authorization: Bearer {virtual_key}' \\\n  \
             -H 'Content-Type: application/json' \\\n  -d '{body}'\n"
        )
    };
    let completion = call("-sS", r#"{"model":"gpt-4","messages":[{"role":"user","content":"Hello"}]}"#);
    let stream = call("-sSN", r#"{"model":"gpt-4","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#);
    let fallback = call("-sSi", r#"{"model":"groq-fast","messages":[{"role":"user","content":"Hello"}]}"#);
    format!(
        "# A completion, from a slow provider:\n{completion}\n\
         # The same as a stream, token by token:\n{stream}\n\
         # A fallback: the flaky provider fails, the next one answers.\n\
         # See x-perpetuo-provider and x-perpetuo-attempts in the head:\n{fallback}\n\
         # What it all cost:\n\
         curl -sS {base}/workspaces/{workspace}/usage \\\n  -H 'Authorization: Bearer {admin_token}'\n"
    )
}
