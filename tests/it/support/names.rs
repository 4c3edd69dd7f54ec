//! Names and their addresses as a test wants them, in the place of the system's resolver.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use perpetuo::balance::discovery::Lookup;

/// Names and their addresses; of a name that it does not know it says nothing, ever.
pub struct Names(Mutex<HashMap<String, Vec<String>>>);

impl Names {
    pub fn new(known: &[(&str, &[&str])]) -> Arc<Self> {
        let names = Self(Mutex::default());
        known.iter().for_each(|(name, addresses)| names.set(name, addresses));
        Arc::new(names)
    }

    /// From now on a name has these addresses.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

#[async_trait]
impl Lookup for Names {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = self.0.lock().unwrap().get(host).cloned();
        let Some(known) = known else { return std::future::pending().await };
        Ok(known.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
    }
}
