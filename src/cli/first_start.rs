//! The first start: with no workspace in the store, one is made from the environment, and its key is shown once.

use std::time::Duration;

use jiff::Timestamp;
use perpetuo::admin::auth::Role;
use perpetuo::config::Secret;
use perpetuo::directory::{CredentialChange, Directory, NewKey, WorkspaceChange};
use perpetuo::error::Error;
use perpetuo::provider::PROVIDERS;
use perpetuo::proxy::Gateway;

use super::token;

/// How long the printed admin token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Makes the first workspace, if there is none.
pub(super) fn run(gateway: &Gateway) -> Result<(), Error> {
    let directory = gateway.directory();
    if !directory.workspaces().is_empty() {
        return Ok(());
    }
    let now = Timestamp::now();
    let change = WorkspaceChange { name: Some("default".to_owned()), ..WorkspaceChange::default() };
    let workspace = directory.create_workspace(change, now)?.id.clone();
    let added = add_credentials(&directory, &workspace)?;
    let (_, key) =
        directory.create_key(&workspace, NewKey { name: Some("first".to_owned()), ..NewKey::default() }, now)?;
    let config = gateway.config();
    let token = token::mint(&config, Role::Admin, &[], TOKEN_LIFE.min(config.jwt.max_ttl))?;
    let base = format!("http://{}", config.server.listen);
    let admin = config.admin.listen.map_or(base.clone(), |address| format!("http://{address}"));
    println!("This is the first start: a workspace has been made. Keep these, the key is not shown again.\n");
    println!("  workspace      {workspace}");
    println!("  providers      {}", if added.is_empty() { "none yet".to_owned() } else { added.join(", ") });
    println!("  virtual key    {}", key.expose());
    println!("  admin token    {token}");
    if config.admin.console {
        println!("  console        {admin}/console/");
    }
    println!();
    if added.is_empty() {
        println!("Add a provider:\n");
        println!(
            "  curl {admin}/workspaces/{workspace}/providers \\\n    -H 'Authorization: Bearer {token}' \\\n    -H 'Content-Type: application/json' \\\n    -d '{{\"provider\":\"openai\",\"api_key\":\"sk-…\",\"priority\":1}}'\n"
        );
    }
    println!("Chat:\n");
    println!(
        "  curl {base}/v1/chat/completions \\\n    -H 'Authorization: Bearer {}' \\\n    -H 'Content-Type: application/json' \\\n    -d '{{\"model\":\"gpt-4\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n",
        key.expose()
    );
    Ok(())
}

/// A credential for every provider whose key is in the environment, in the order of the registry. One that a key alone can't
/// describe, because its address is the customer's own, is left to the admin API.
fn add_credentials(directory: &Directory, workspace: &str) -> Result<Vec<String>, Error> {
    let mut added = Vec::new();
    for provider in PROVIDERS.iter().filter(|provider| !provider.base_url.is_empty() && !provider.keyless) {
        let Some(key) = std::env::var(provider.key_variable).ok().filter(|key| !key.trim().is_empty()) else {
            continue;
        };
        let priority = u32::try_from(added.len() + 1).unwrap_or(u32::MAX);
        let change = CredentialChange {
            api_key: Some(Secret::new(key.trim())),
            priority: Some(priority),
            ..CredentialChange::default()
        };
        directory.create_credential(workspace, provider.name, change, Timestamp::now())?;
        added.push(provider.name.to_owned());
    }
    Ok(added)
}
