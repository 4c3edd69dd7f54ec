//! No credential leads into the private network, however its base URL is written and whatever its name resolves to.

use perpetuo::simulator::{Behaviour, Simulator};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Names, World, hello, hello_stream, provider_key};

/// Private and special addresses in every spelling that a URL allows, and names that lead to such by convention.
const PRIVATE: [&str; 52] = [
    "127.0.0.1",
    "127.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "localhost",
    "LocalHost.",
    "a.localhost",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.254",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "169.254.169.254.",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "metadata",
    "metadata.google.internal",
    "metadata.google.internal.",
    "printer.local",
    "router.lan",
    "nas.home.arpa",
    "%31%32%37.0.0.1",
    "①②⑦.0.0.1",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::7f00:1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[ff02::1]",
];

/// The parameter that a refusal is about.
fn refused(answer: &Answer, what: &str) -> String {
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{what}: {}", answer.text());
    answer.error()["param"].as_str().unwrap_or_default().to_owned()
}

fn credential(base_url: &str) -> Value {
    json!({"provider": "openai", "api_key": provider_key("openai"), "base_url": base_url})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_url_that_leads_into_the_private_network_is_refused_when_it_is_written() {
    let world = World::start(|config| config.security.allow_private_upstreams.clear()).await;
    let providers = format!("/workspaces/{}/providers", world.workspace);
    let public = credential("https://api.acme.example/v1");
    let made = world.admin(Method::POST, &providers, Some(&public)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let one = format!("{providers}/{}", made.json()["data"]["id"].as_str().unwrap());
    let urls = PRIVATE.iter().flat_map(|host| {
        ["https://{}/v1", "https://{}:8443", "http://{}/latest/meta-data"].map(|form| form.replace("{}", host))
    });
    let others = [
        "http://api.acme.example/v1",
        "https://api.acme.example@10.0.0.1/v1",
        "https://10.0.0.1#@api.acme.example/",
        "https://10.0.0.1\\@api.acme.example/",
        "https://user:pw@api.acme.example/v1",
        "https://api.acme.example/v1?url=http://10.0.0.1",
        "https://api.acme.example/v1#x",
        "ftp://api.acme.example/v1",
        "file:///etc/passwd",
        "gopher://10.0.0.1/",
        "https://",
        "//api.acme.example",
        "",
    ];
    for url in urls.chain(others.map(str::to_owned)) {
        let created = world.admin(Method::POST, &providers, Some(&credential(&url))).await;
        assert_eq!(refused(&created, &url), "base_url", "{url}");
        let changed = world.admin(Method::PUT, &one, Some(&json!({"base_url": url}))).await;
        assert_eq!(refused(&changed, &url), "base_url", "{url}");
    }
    let all = world.admin(Method::GET, &providers, None).await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 1, "nothing was stored");
    assert_eq!(all["data"][0]["base_url"], "https://api.acme.example/v1");
}

/// The name was public when it was written, or said nothing; what it resolves to when a connection is to be made is what counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_into_the_private_network_is_not_connected_to() {
    let inside = Simulator::start(Behaviour::new("inside")).await.unwrap();
    let names = Names::new(&[]);
    let world = World::start_with(names.clone(), |config| config.security.allow_private_upstreams.clear()).await;
    let private = [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ];
    for (turn, address) in private.into_iter().enumerate() {
        // A name of its own each time, as answers are kept for a while.
        let name = format!("rebind-{turn}.example");
        names.set(&name, &[address]);
        let id = world.add_at("openai", &format!("https://{name}:{}", inside.address().port()), |_| ());
        for body in [hello("gpt-4o"), hello_stream("gpt-4o")] {
            let answer = world.chat(&body).await;
            assert_eq!((answer.status, answer.code().as_str()), (502, "provider_unreachable"), "{address}");
            assert!(!answer.text().contains(address.trim_start_matches("::")) || address == "::", "{}", answer.text());
        }
        let one = format!("/workspaces/{}/providers/{id}", world.workspace);
        let tested = world.admin(Method::POST, &format!("{one}/test"), None).await;
        assert!(!tested.text().contains("\"ok\":true") && !tested.text().contains("simulated"), "{}", tested.text());
        assert_eq!(world.admin(Method::DELETE, &one, None).await.status, 200);
    }
    assert_eq!(inside.connections(), 0, "nobody knocked there");
}
