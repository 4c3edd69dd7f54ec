//! The master key of a store as an operator changes it: `perpetuo vault rotate`, stopped and run again, and a key that is lost.

use std::process::Output;
use std::time::Instant;

use perpetuo::simulator::Behaviour;
use serde_json::json;

use crate::process::{Furnished, Process, Site, command, hello, text};
use crate::support::PATIENCE;

/// `[security]` goes on in the configuration of a [`Site`], so these lines belong there.
const OLD_AND_NEW: &str = "master_key = \"env:NEW\"\nold_master_keys = [\"env:OLD\"]\n";
const ONLY_NEW: &str = "master_key = \"env:NEW\"\n";
const ONLY_OLD: &str = "master_key = \"env:OLD\"\n";

/// A command over the site with both keys in its environment.
fn with_keys(site: &Site, arguments: &[&str]) -> std::process::Command {
    let mut command = command(arguments);
    command.arg("--config").arg(site.config()).env("OLD", "a1".repeat(32)).env("NEW", "b2".repeat(32));
    command
}

fn rotate(site: &Site, more: &[&str]) -> Output {
    with_keys(site, &[&["vault", "rotate"], more].concat()).output().unwrap()
}

async fn serve(site: &Site) -> Process {
    let process = Process::start(&mut with_keys(site, &["serve"]));
    process.until_healthy(&site.address).await;
    process
}

/// A gateway under the old key, with so many virtual keys more, stopped.
async fn furnished(keys: usize) -> Furnished {
    let site = Site::new();
    site.configure(ONLY_OLD);
    let process = serve(&site).await;
    let mut gateway = Furnished::over(Behaviour::new("openai"), site, process).await;
    for number in 0..keys {
        let path = format!("/workspaces/{}/api-keys", gateway.workspace);
        gateway.site.post(&gateway.token, &path, json!({"name": format!("key {number}")})).await;
    }
    stop(&mut gateway).await;
    gateway
}

async fn stop(gateway: &mut Furnished) {
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0));
}

/// What the provider was sent, after a request with the virtual key that was made under the old master key.
async fn asks(gateway: &Furnished) -> bool {
    let answer = gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap();
    let seen = gateway.provider.seen();
    answer.status() == 200 && seen.last().is_some_and(|seen| seen.authorization_matches("sk-process"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_key_outlives_the_master_key_that_sealed_it() {
    let mut gateway = furnished(0).await;
    gateway.site.configure(OLD_AND_NEW);
    gateway.process = serve(&gateway.site).await;
    assert!(asks(&gateway).await, "with both keys it serves before the rotation");
    let in_use = rotate(&gateway.site, &[]);
    assert!(!in_use.status.success() && text(&in_use.stderr).contains("another process"), "{in_use:?}");
    stop(&mut gateway).await;

    let rotated = rotate(&gateway.site, &[]);
    let said = text(&rotated.stdout);
    assert!(rotated.status.success() && said.contains("2 secrets are sealed"), "{rotated:?}");
    gateway.site.configure(ONLY_NEW);
    gateway.process = serve(&gateway.site).await;
    assert!(asks(&gateway).await, "with the new key alone");
    stop(&mut gateway).await;

    // The old key opens nothing any more, and says so before anything is served.
    gateway.site.configure(ONLY_OLD);
    let refused = with_keys(&gateway.site, &["serve"]).output().unwrap();
    let why = text(&refused.stderr);
    assert!(!refused.status.success() && why.contains("old_master_keys") && why.contains("--give-up"), "{why}");
    for secret in ["a1a1", "b2b2", "sk-process", &gateway.key] {
        assert!(!why.contains(secret) && !said.contains(secret), "{why}{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_is_run_again() {
    let mut gateway = furnished(60).await;
    gateway.site.configure(OLD_AND_NEW);
    let journal = gateway.site.data_dir().join("store/journal");
    let written = || -> u64 {
        let files = std::fs::read_dir(&journal).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        files.sum()
    };
    let before = written();
    let mut killed = Process::start(&mut with_keys(&gateway.site, &["vault", "rotate"]));
    let deadline = Instant::now() + PATIENCE;
    while written() == before {
        assert!(Instant::now() < deadline, "it wrote nothing:\n{}", killed.log.all());
        tokio::task::yield_now().await;
    }
    killed.kill_9();

    let again = rotate(&gateway.site, &[]);
    assert!(again.status.success(), "{again:?}");
    gateway.site.configure(ONLY_NEW);
    gateway.process = serve(&gateway.site).await;
    assert!(asks(&gateway).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_master_key_is_given_up_on_purpose() {
    let mut gateway = furnished(0).await;
    gateway.site.configure(ONLY_NEW);
    let refused = rotate(&gateway.site, &[]);
    let said = text(&refused.stdout);
    assert!(!refused.status.success() && said.contains("which is not here"), "{refused:?}");
    let fingerprint = said.split("master key ").nth(2).unwrap().split(',').next().unwrap();
    let given_up = rotate(&gateway.site, &["--give-up", fingerprint]);
    assert!(given_up.status.success() && text(&given_up.stdout).contains("2 are given up"), "{given_up:?}");

    gateway.process = serve(&gateway.site).await;
    let answer = gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap();
    assert_eq!(answer.status(), 401);
    let token = with_keys(&gateway.site, &["token"]).output().unwrap();
    let token = text(&token.stdout).trim().to_owned();
    let path = format!("/workspaces/{}/providers", gateway.workspace);
    let held = gateway.site.get(&token, &path).await;
    assert_eq!(held["data"][0]["usable"], false, "its key must be given again");
}

#[test]
fn there_is_nothing_to_rotate_where_nothing_is() {
    let site = Site::new();
    site.configure(ONLY_NEW);
    let refused = rotate(&site, &[]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("There is no store"), "{refused:?}");
    assert!(!site.data_dir().exists());
}
