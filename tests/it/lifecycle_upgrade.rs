//! A new process in the place of a running one: no stream is cut, no request fails, nothing is missing in the ledger or there twice,
//! whatever happens to either of the two. With real processes.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perpetuo::handover::{Predecessor, socket_path};
use perpetuo::simulator::Behaviour;
use reqwest::Client;
use serde_json::{Value, json};

use crate::lifecycle::{Load, Streams, assert_booked_once, slow};
use crate::process::{Furnished, Process, command, hello, text};
use crate::support::within;

/// Starts a process that follows the running one, and waits until it does.
fn follow(gateway: &mut Furnished) -> Process {
    let next = Process::start(command(&["serve", "--upgrade"]).arg("--config").arg(gateway.site.config()));
    next.log.wait_for("in the place of another process");
    std::mem::replace(&mut gateway.process, next)
}

/// Makes virtual keys, one after the other, until it is told to stop; gives their ids.
async fn administer(url: String, token: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let client = Client::new();
    let mut made = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let body = json!({"name": format!("key {}", made.len())});
        let answer = client.post(&url).bearer_auth(&token).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201, "key {}", made.len());
        let answer: Value = answer.json().await.unwrap();
        made.push(answer["data"]["id"].as_str().unwrap().to_owned());
    }
    made
}

/// A new binary in the place of the running one cuts no stream, fails no request and loses no record.
#[tokio::test(flavor = "multi_thread")]
async fn fault_80_upgrade_under_load() {
    for durability in ["batch", "sync"] {
        let more = format!("[meter]\ndurability = \"{durability}\"\n");
        let mut gateway = Furnished::start_with(slow(), &more).await;
        let streams = Streams::begin(&gateway).await;
        let load = Load::start(&gateway);
        let stop = Arc::new(AtomicBool::new(false));
        let url = gateway.site.url(&format!("/workspaces/{}/api-keys", gateway.workspace));
        let admin = tokio::spawn(administer(url, gateway.token.clone(), Arc::clone(&stop)));

        let mut first = follow(&mut gateway);
        let later = Streams::begin_named(&gateway, "later").await;
        let mut second = follow(&mut gateway);

        let mut booked = streams.end().await;
        booked.extend(later.end().await);
        stop.store(true, Ordering::Relaxed);
        let made = admin.await.unwrap();
        booked.extend(load.end().await);
        for old in [&mut first, &mut second] {
            assert_eq!(old.exit().await.code(), Some(0), "{}", old.log.all());
        }
        assert_booked_once(&gateway, booked).await;
        let path = format!("/workspaces/{}/api-keys", gateway.workspace);
        let keys = gateway.site.get(&gateway.token, &path).await;
        let held: Vec<&str> = keys["data"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
        assert!(!made.is_empty() && made.iter().all(|id| held.contains(&id.as_str())), "no admin write is lost");
        let verified = stop_and_verify(&mut gateway).await;
        assert!(verified.contains("The store is whole"), "{verified}");
    }
}

async fn stop_and_verify(gateway: &mut Furnished) -> String {
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0), "{}", gateway.process.log.all());
    text(&gateway.site.run(&["store", "verify"]).stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_on_an_old_connection_is_answered_by_the_new_process() {
    let mut gateway = Furnished::start(slow()).await;
    let client = Client::new();
    client.get(gateway.site.url("/health")).send().await.unwrap().bytes().await.unwrap();
    let path = format!("/workspaces/{}/api-keys", gateway.workspace);
    let mut old = follow(&mut gateway);
    let made = gateway.site.post(&gateway.token, &path, json!({"name": "made by the new one"})).await;
    let key = made["data"]["key"].as_str().unwrap();
    let url = gateway.site.url("/v1/chat/completions");
    let answer = client.post(url).bearer_auth(key).json(&hello("openai/gpt-4o")).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the connection is the old process's, and the key the new one's");
    assert_eq!(answer.headers()["connection"], "close");
    assert!(answer.text().await.unwrap().contains("\"finish_reason\""));
    assert_eq!(old.exit().await.code(), Some(0), "its last connection is closed: {}", old.log.all());
    assert_eq!(gateway.logs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upgrade_command_has_the_running_gateway_replace_itself() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    assert_eq!(gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().status(), 200);
    let said = gateway.site.run(&["upgrade"]);
    let out = text(&said.stdout);
    assert!(said.status.success(), "{}{}", text(&said.stderr), gateway.process.log.all());
    let next = Foreign(out.split(' ').nth(1).unwrap().to_owned());
    assert_eq!(gateway.process.exit().await.code(), Some(0), "{}", gateway.process.log.all());
    assert_eq!(gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().status(), 200);
    assert_eq!(gateway.logs().await.len(), 2);
    next.end().await;

    let said = gateway.site.run(&["upgrade"]);
    assert!(!said.status.success() && text(&said.stderr).contains("No gateway is running"), "{}", text(&said.stderr));
}

/// A process that is no child of this one.
struct Foreign(String);

impl Foreign {
    async fn end(self) {
        assert!(Command::new("kill").args(["-TERM", &self.0]).status().unwrap().success());
        let gone =
            || std::fs::read_to_string(format!("/proc/{}/stat", self.0)).map_or(true, |stat| stat.contains(") Z "));
        within("the new process to end", async {
            while !gone() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-9", &self.0]).stderr(std::process::Stdio::null()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_can_not_follow_changes_nothing() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    let said = gateway.site.run(&["upgrade", "--program", "/bin/false"]);
    assert!(!said.status.success() && text(&said.stderr).contains("goes on as before"), "{}", text(&said.stderr));
    let written = std::fs::read_to_string(gateway.site.config()).unwrap();
    std::fs::write(gateway.site.config(), format!("{written}[routing]\nstrategy = \"quickest\"\n")).unwrap();
    let next = command(&["serve", "--upgrade"]).arg("--config").arg(gateway.site.config()).output().unwrap();
    assert!(!next.status.success() && text(&next.stderr).contains("routing.strategy"));
    std::fs::write(gateway.site.config(), written).unwrap();

    assert_eq!(gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().status(), 200);
    let old = follow(&mut gateway);
    drop(old);
    assert_eq!(gateway.logs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_with_the_store_in_its_hands_gives_it_back() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    let socket = socket_path(&gateway.site.data_dir());
    let (mut next, sockets) = Predecessor::call(&socket).unwrap().unwrap();
    assert_eq!(sockets.len(), 2);
    next.release().unwrap();
    // Applications are served; their bookings, and whoever administers, wait.
    assert_eq!(gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().status(), 200);
    let path = format!("/workspaces/{}/api-keys", gateway.workspace);
    let (url, token) = (gateway.site.url(&path), gateway.token.clone());
    let made = tokio::spawn(Client::new().post(url).bearer_auth(token).json(&json!({"name": "patient"})).send());
    drop(next);
    assert_eq!(made.await.unwrap().unwrap().status(), 201);
    gateway.process.log.wait_for("this one goes on");
    assert_eq!(gateway.logs().await.len(), 1);

    let mut old = follow(&mut gateway);
    assert_eq!(gateway.logs().await.len(), 1);
    drop(sockets);
    assert_eq!(old.exit().await.code(), Some(0), "{}", old.log.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_process_whose_successor_was_killed_books_by_itself() {
    let mut gateway = Furnished::start(slow()).await;
    let streams = Streams::begin(&gateway).await;
    let mut old = follow(&mut gateway);
    gateway.process.kill_9();
    let booked = streams.end().await;
    assert_eq!(old.exit().await.code(), Some(0), "{}", old.log.all());
    gateway.process = gateway.site.serve().await;
    assert_booked_once(&gateway, booked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_process_whose_successor_was_restarted_books_there() {
    let mut gateway = Furnished::start(slow()).await;
    let streams = Streams::begin(&gateway).await;
    let mut old = follow(&mut gateway);
    gateway.process.kill_9();
    gateway.process = gateway.site.serve().await;
    let booked = streams.end().await;
    assert_eq!(old.exit().await.code(), Some(0), "{}", old.log.all());
    assert_booked_once(&gateway, booked).await;
}
