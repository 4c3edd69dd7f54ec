//! The gateway's own server in a thread of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use perpetuo::proxy::{self, Gateway, Listeners, Signals};
use reqwest::{Client, StatusCode};
use tokio::sync::Notify;

/// A server that is running.
pub(super) struct Running {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    stop: Notify,
    drain: AtomicBool,
}

struct Stop(Arc<Signal>);

#[async_trait]
impl Signals for Stop {
    async fn stop(&self) -> bool {
        self.0.stop.notified().await;
        self.0.drain.load(Ordering::Relaxed)
    }
}

impl Running {
    pub(super) fn start(gateway: &Arc<Gateway>) -> Self {
        let signal = Arc::new(Signal::default());
        let (gateway, stop) = (Arc::clone(gateway), Stop(Arc::clone(&signal)));
        let thread = std::thread::spawn(move || {
            // A port that somebody else took meanwhile shows in who answers there.
            let Ok(listeners) = Listeners::bind(&gateway.config()) else { return };
            proxy::serve(&gateway, &Arc::new(listeners), stop).unwrap();
        });
        Self { signal, thread: Some(thread) }
    }

    /// Waits until the server answers to this key; false when someone else answers at its address, or no one does.
    pub(super) async fn answers(&self, client: &Client, address: SocketAddr, key: &str) -> bool {
        for _ in 0..1000 {
            let asked = client.get(format!("http://{address}/v1/models")).bearer_auth(key).send().await;
            match asked {
                Ok(answer) => return answer.status() == StatusCode::OK,
                // Nothing tells when a listener is open.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        false
    }

    pub(super) async fn stop(&mut self, drain: bool) {
        self.signal.drain.store(drain, Ordering::Relaxed);
        self.signal.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            tokio::task::spawn_blocking(move || thread.join()).await.unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal.stop.notify_one();
    }
}

/// An address of this machine that is free now. Below the ports that systems give to outgoing connections, so that only
/// another caller of this function could take it.
pub fn free_address() -> SocketAddr {
    loop {
        let port = 10_000 + u16::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().unwrap()) % 20_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
