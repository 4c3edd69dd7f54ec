//! How the gateway of a soak is configured and furnished, by the admin API alone.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::process::Site;
use crate::reconcile::provider::Provider;
use crate::support::free_address;

/// Tenants whose every request is reconciled.
pub const WORKSPACES: usize = 4;
/// The strategies of each tenant's virtual keys.
pub const KEYS: [&str; 3] = ["default", "fastest", "cheapest"];

/// A tenant.
pub struct Tenant {
    pub workspace: String,
    pub keys: Vec<String>,
}

/// What was made at the start.
pub struct Desk {
    pub token: String,
    pub tenants: Vec<Tenant>,
    /// Who sends what is refused.
    pub noise: Tenant,
    /// The root of a provider that answers.
    pub provider: String,
}

/// A site with its configuration.
pub fn site() -> Site {
    let site = Site::new();
    configure(&site, 0);
    site
}

/// Writes the configuration; what `round` changes has an effect without a restart.
pub fn configure(site: &Site, round: u64) {
    site.configure(&format!(
        "[limits]\nmax_body_bytes = 8388608\n[retry]\nmax_attempts = 4\nsame_route = true\nmax_wait = \"{}ms\"\n\
         [timeouts]\nfirst_token = \"1500ms\"\nidle = \"1500ms\"\nhead = \"2s\"\nbody = \"5s\"\n\
         [log]\nformat = \"json\"\naccess_file = {:?}\n",
        1900 + round % 100,
        access_log(site)
    ));
}

/// Where the access log goes.
pub fn access_log(site: &Site) -> PathBuf {
    site.directory.path().join("access.log")
}

impl Desk {
    pub async fn furnish(site: &Site, token: String, providers: &[Provider]) -> Self {
        let mut tenants = Vec::new();
        for place in 0..WORKSPACES {
            tenants.push(tenant(site, &token, providers, place).await);
        }
        let noise = Tenant::make(site, &token, json!({"name": "noise"})).await;
        noise.add(site, &token, ("openai", format!("{}/v1", providers[0].url)), json!({})).await;
        Self { token, tenants, noise, provider: format!("{}/v1", providers[0].url) }
    }
}

/// A tenant with all providers, in an order of its own; one has a provider in front that is down, the others hedge.
async fn tenant(site: &Site, token: &str, providers: &[Provider], place: usize) -> Tenant {
    let tenant = Tenant::make(site, token, json!({"name": format!("w{place}"), "hedging": place != 2})).await;
    for (at, provider) in providers.iter().enumerate() {
        let (path, model) = match provider.name {
            "openai" => ("/v1", "gpt-4o"),
            "anthropic" => ("", "claude-sonnet-4-5"),
            _ => ("", "gemini-2.5-flash"),
        };
        let priority = 2 + (at + place) % providers.len();
        let more = json!({"models": {"mix": model}, "priority": priority});
        tenant.add(site, token, (provider.name, format!("{}{path}", provider.url)), more).await;
    }
    if place == 2 {
        let nowhere = format!("http://{}/openai/v1", free_address());
        tenant
            .add(site, token, ("groq", nowhere), json!({"models": {"mix": "openai/gpt-oss-120b"}, "priority": 1}))
            .await;
    }
    tenant
}

impl Tenant {
    async fn make(site: &Site, token: &str, workspace: Value) -> Self {
        let made = site.post(token, "/workspaces", workspace).await;
        let workspace = made["data"]["id"].as_str().unwrap().to_owned();
        let mut keys = Vec::new();
        for strategy in KEYS {
            let path = format!("/workspaces/{workspace}/api-keys");
            let made = site.post(token, &path, json!({"name": strategy, "strategy": strategy})).await;
            keys.push(made["data"]["key"].as_str().unwrap().to_owned());
        }
        Self { workspace, keys }
    }

    /// Adds a credential of this provider at this address.
    async fn add(&self, site: &Site, token: &str, (name, url): (&str, String), mut more: Value) {
        more["provider"] = json!(name);
        more["base_url"] = json!(url);
        more["api_key"] = json!("a-key-of-the-soak");
        site.post(token, &format!("/workspaces/{}/providers", self.workspace), more).await;
    }
}
