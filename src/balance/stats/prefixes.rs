//! Which route saw the beginning of a prompt last: its cache may still be warm, which is money.
//!
//! One table per workspace with a fixed number of places; a newer prompt takes the place of an older one. A wrong answer is
//! possible and harmless: it only makes a candidate look cheaper than it will be.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::balance::{Moment, hash};

/// How long a provider's cache stays warm.
pub const WARM_MS: u64 = 300_000;
/// What is hashed of a prompt, in bytes: about the thousand tokens below which providers cache nothing.
const PREFIX_BYTES: usize = 4096;
/// Places of a table.
const PLACES: usize = 8192;
/// Milliseconds per tick: 16 bits of them last six days.
const TICK_MS: u64 = 8000;

/// What identifies the beginning of a prompt; nothing for one that is too short to be cached.
pub fn prefix(prompt: &[u8]) -> Option<u64> {
    prompt.get(..PREFIX_BYTES).map(hash)
}

/// The last route of each prefix. The places are made when the first one is needed.
#[derive(Debug, Default)]
pub struct Prefixes(OnceLock<Box<[AtomicU64]>>);

impl Prefixes {
    /// Whether this route, by its tag, saw this prefix last and recently enough.
    pub fn is_warm(&self, prefix: u64, route: u16, now: Moment) -> bool {
        let Some(places) = self.0.get() else { return false };
        let Some(word) = place(places, prefix).map(|place| place.load(Relaxed)) else { return false };
        let age = (now.0 / TICK_MS).wrapping_sub(word) & 0xffff;
        word >> 32 == prefix >> 32 && (word >> 16) & 0xffff == u64::from(route) && age * TICK_MS < WARM_MS
    }

    /// This route has just seen this prefix.
    pub fn saw(&self, prefix: u64, route: u16, now: Moment) {
        let places = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        if let Some(place) = place(places, prefix) {
            let tick = (now.0 / TICK_MS) & 0xffff;
            place.store((prefix >> 32 << 32) | (u64::from(route) << 16) | tick, Relaxed);
        }
    }
}

fn place(places: &[AtomicU64], prefix: u64) -> Option<&AtomicU64> {
    places.get(usize::try_from(prefix % PLACES as u64).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_warm_at_its_last_route_for_five_minutes() {
        let prefixes = Prefixes::default();
        let long = vec![b'x'; 5000];
        let (first, longer) = (prefix(&long).unwrap(), prefix(&[long.clone(), vec![b'y'; 900]].concat()).unwrap());
        assert_eq!(first, longer, "a conversation that grows keeps its beginning");
        assert_eq!(prefix(b"short"), None);
        assert!(!prefixes.is_warm(first, 7, Moment(0)));
        prefixes.saw(first, 7, Moment(1000));
        assert!(prefixes.is_warm(first, 7, Moment(280_000)));
        assert!(!prefixes.is_warm(first, 8, Moment(280_000)), "somewhere else it is cold");
        assert!(!prefixes.is_warm(first, 7, Moment(310_000)));
        prefixes.saw(first, 8, Moment(400_000));
        assert!(!prefixes.is_warm(first, 7, Moment(400_001)), "the last route is the one");
    }
}
