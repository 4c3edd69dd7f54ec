//! Faults 38 and 40: hosts that can't be found, have moved, or lead nowhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perpetuo::balance::discovery::Lookup;
use perpetuo::config::Config;
use perpetuo::simulator::{Behaviour, Simulator};
use reqwest::Method;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{ALONE, SHARED, answered, served_by_the_healthy};
use crate::support::{Answer, Names, World, hello, within};

fn allowing(names: &[&str]) -> impl FnOnce(&mut Config) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    |config: &mut Config| config.security.allow_private_upstreams.extend(names)
}

/// A host name without an address is a failed attempt: the next provider is asked.
#[tokio::test]
async fn fault_40_name_without_address() {
    let world = World::start(|config| config.security.allow_private_upstreams.push("nowhere.invalid".to_owned())).await;
    let healthy = Simulator::start(Behaviour::new("healthy")).await.unwrap();
    world.add_at("openai", "http://nowhere.invalid", |_| ());
    world.add("groq", &healthy, |_| ());
    served_by_the_healthy(&world.chat(&hello(SHARED)).await, "no such name");
    let alone = world.chat(&hello(ALONE)).await;
    assert_eq!((alone.status, alone.code().as_str()), (502, "provider_unreachable"));
}

/// A dead one among a host's addresses costs no attempt, and is passed over from then on; IPv6 is what is tried last.
#[tokio::test(flavor = "multi_thread")]
async fn fault_40_dead_address_among_others() {
    let names = Names::new(&[("acme.test", &["::1", "127.0.0.2", "127.0.0.1"])]);
    let world = World::start_with(names, allowing(&["acme.test"])).await;
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    world.add_at("openai", &format!("http://acme.test:{}", simulator.address().port()), |_| ());
    for turn in 0..5 {
        let answer = world.chat(&hello(ALONE)).await;
        assert_eq!((answer.status, answer.attempts()), (200, 1), "{turn}: {}", answer.text());
    }
    assert!(world.booked(5).await.iter().all(|booked| booked.attempts[0].error.is_none()));
}

/// A host that moves to another address is followed as soon as nobody answers at the old one.
#[tokio::test(flavor = "multi_thread")]
async fn fault_40_address_that_changes() {
    let names = Names::new(&[("acme.test", &["127.0.0.1"])]);
    let world = World::start_with(Arc::clone(&names) as Arc<dyn Lookup>, allowing(&["acme.test"])).await;
    let old = Simulator::start(Behaviour::new("old")).await.unwrap();
    let port = old.address().port();
    world.add_at("openai", &format!("http://acme.test:{port}"), |_| ());
    assert_eq!(world.chat(&hello(ALONE)).await.status, 200);
    let _new = Simulator::start_at(([127, 0, 0, 2], port).into(), Behaviour::new("new")).await.unwrap();
    names.set("acme.test", &["127.0.0.2"]);
    old.shutdown().await;
    let began = Instant::now();
    let moved = async {
        loop {
            let answer = world.chat(&hello(ALONE)).await;
            if answer.status == 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(within("the new address", moved).await.text().contains("new"));
    assert!(began.elapsed() < Duration::from_secs(15), "long before its answer is out of date");
}

/// A name server that says nothing costs an attempt two seconds and nobody else any: looking up never blocks a thread that serves.
#[tokio::test(flavor = "multi_thread")]
async fn fault_40_silent_name_server() {
    let names = Names::new(&[("healthy.test", &["127.0.0.1"])]);
    let world = World::start_with(names, |config| {
        allowing(&["silent.test", "healthy.test"])(config);
        config.server.threads = 1;
    })
    .await;
    let healthy = Simulator::start(Behaviour::new("healthy")).await.unwrap();
    world.add_at("openai", "http://silent.test", |_| ());
    world.add_at("groq", &format!("http://healthy.test:{}", healthy.address().port()), |_| ());
    let waiting = tokio::spawn(Answer::of(world.chat_request(world.client()).json(&hello(SHARED))));
    let models = Answer::of(world.request(Method::GET, "/v1/models"));
    tokio::select! {
        biased;
        answer = models => assert_eq!(answer.status, 200),
        () = tokio::time::sleep(Duration::from_millis(1500)) => panic!("the look-up blocked the thread"),
    }
    served_by_the_healthy(&answered(waiting).await, "no name server");
}

/// A host that takes no connection and refuses none is given up after `timeouts.connect`; the next provider is asked.
#[tokio::test]
async fn fault_38_connection_that_is_never_made() {
    let world = World::start(|config| config.timeouts.connect = Duration::from_millis(300)).await;
    let healthy = Simulator::start(Behaviour::new("healthy")).await.unwrap();
    let (_full, _waiting, address) = full_listener().await;
    world.add_at("openai", &format!("http://{address}"), |_| ());
    world.add("groq", &healthy, |_| ());
    let began = Instant::now();
    served_by_the_healthy(&world.chat(&hello(SHARED)).await, "no connection");
    assert!(began.elapsed() < Duration::from_secs(5));
    let failed = world.booking().await.attempts[0].clone();
    assert!(matches!(failed.error.as_deref(), Some("provider_unreachable" | "provider_timeout")), "{failed:?}");
    assert_eq!((failed.usage.total_tokens(), failed.cost.dollars()), (0, 0.0));
}

/// An address of a host where no connection is ever made costs one attempt, within `timeouts.connect`; the next ones go to another
/// address of the host.
#[tokio::test]
async fn fault_40_mute_address_among_others() {
    let (_full, _waiting, address) = full_listener().await;
    let names = Names::new(&[("acme.test", &["127.0.0.1", "127.0.0.2"])]);
    let world = World::start_with(names, |config| {
        allowing(&["acme.test"])(config);
        config.timeouts.connect = Duration::from_millis(300);
    })
    .await;
    let other = Simulator::start_at(([127, 0, 0, 2], address.port()).into(), Behaviour::new("other")).await.unwrap();
    let healthy = Simulator::start(Behaviour::new("healthy")).await.unwrap();
    world.add_at("openai", &format!("http://acme.test:{}", address.port()), |_| ());
    world.add("groq", &healthy, |_| ());
    served_by_the_healthy(&world.chat(&hello(SHARED)).await, "mute");
    for turn in 0..3 {
        let answer = world.chat(&hello(SHARED)).await;
        assert_eq!((answer.provider(), answer.attempts()), ("openai", 1), "{turn}: {}", answer.text());
    }
    assert_eq!(other.seen().len(), 3);
}

/// A listener that accepts nobody and has no room for more who wait, those who do, and its address.
async fn full_listener() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (address, mut waiting) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream);
        assert!(waiting.len() < 1000, "there is always room");
    }
    (listener, waiting, address)
}
