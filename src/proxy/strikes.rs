//! Refused credentials: who sends many has to wait for each refusal.
//!
//! A key has 256 random bits, so nobody finds one by trying; what a wave of wrong ones costs is work and noise, and a misconfigured
//! program that never gives up costs the same. A credential that is right is never slowed, whoever shares its address.
//!
//! Pure: time goes in. Bounded: a table of fixed size, in which subjects may share a place and then share their waits.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Places of the table.
const PLACES: usize = 4096;
/// What a refusal costs: so many milliseconds later the subject is as it was.
const COST: u64 = 200;
/// Refusals that may come at once.
const BURST: u64 = 50;
/// The longest wait, in milliseconds.
const LONGEST: u64 = 2_000;
/// Characters of a credential that stand for it.
const PREFIX: usize = 11;

/// Remembers refusals.
pub(super) struct Strikes {
    hasher: RandomState,
    /// For each place the moment, in milliseconds, when its debt is paid.
    paid: Box<[AtomicU64]>,
}

impl Default for Strikes {
    fn default() -> Self {
        Self { hasher: RandomState::new(), paid: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Strikes {
    /// How long this refusal is to wait: for its address, or for the credential that was sent, whichever owes more.
    pub(super) fn refused(&self, address: Option<IpAddr>, credential: Option<&str>, now: u64) -> Duration {
        let network = address.map(network);
        let prefix = credential.map(|text| text.get(..PREFIX).unwrap_or(text));
        let by_address = network.map_or(0, |network| self.strike(("address", network), now));
        let by_prefix = prefix.map_or(0, |prefix| self.strike(("prefix", prefix), now));
        Duration::from_millis(by_address.max(by_prefix))
    }

    /// Books one refusal; the wait in milliseconds.
    fn strike(&self, subject: impl Hash, now: u64) -> u64 {
        let place = usize::try_from(self.hasher.hash_one(subject) % PLACES as u64).unwrap_or(0);
        let Some(paid) = self.paid.get(place) else { return 0 };
        let owes = |paid: u64| (paid.max(now) + COST).min(now + BURST * COST + LONGEST);
        let before = paid.fetch_update(Relaxed, Relaxed, |paid| Some(owes(paid))).unwrap_or_default();
        owes(before).saturating_sub(now + BURST * COST)
    }
}

/// Whoever has one IPv6 address has all of its network.
fn network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(address.to_bits() >> 64 << 64, |v4| v4.to_bits().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn a_few_mistakes_are_free_and_many_are_slow_until_time_has_passed() {
        let strikes = Strikes::default();
        for _ in 0..BURST {
            assert_eq!(strikes.refused(HOME, None, 1_000), Duration::ZERO);
        }
        assert_eq!(strikes.refused(HOME, None, 1_000), Duration::from_millis(COST));
        for _ in 0..1_000 {
            strikes.refused(HOME, None, 1_000);
        }
        assert_eq!(strikes.refused(HOME, None, 1_000), Duration::from_millis(LONGEST), "a wait has an end");
        assert_eq!(strikes.refused(HOME, None, 60_000), Duration::ZERO, "and so has the memory");
    }

    #[test]
    fn one_key_from_many_addresses_is_slowed_by_its_beginning() {
        let strikes = Strikes::default();
        let mut last = Duration::ZERO;
        for number in 0..u32::try_from(BURST + 5).unwrap() {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number * 65_537));
            last = strikes.refused(Some(address), Some(&format!("pk_12345678{number}")), 0);
        }
        assert!(last > Duration::ZERO);
    }

    #[test]
    fn an_ipv6_network_is_one_subject() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
