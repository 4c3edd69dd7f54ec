//! The breaker as a story, and against a simple model of it.

use proptest::prelude::*;

use super::window::{STEP_MS, STEPS};
use super::*;

/// The middle of the jitter: an open time of exactly ten seconds.
const EVEN: u64 = 2000;

fn opened(at: u64) -> Breaker {
    let breaker = Breaker::default();
    for turn in 1..=IN_A_ROW {
        let pass = breaker.enter(Moment(at)).expect("closed");
        assert_eq!(breaker.failure(pass, Moment(at), EVEN), turn == IN_A_ROW);
    }
    breaker
}

/// A provider that comes back is probed by one request at a time.
#[test]
fn fault_76_probes_one_at_a_time() {
    let breaker = opened(0);
    assert_eq!(breaker.enter(Moment(OPEN_MS - 1)), None);
    assert_eq!(breaker.enter(Moment(OPEN_MS)), Some(Pass::Probe));
    assert_eq!(breaker.enter(Moment(OPEN_MS)), None, "a second one does not pass");
    breaker.leave(Pass::Probe);
    assert_eq!(breaker.enter(Moment(OPEN_MS)), Some(Pass::Probe), "a probe that told nothing frees the place");
    breaker.success(Pass::Probe, Moment(OPEN_MS));
    assert_eq!(breaker.state(Moment(OPEN_MS)), State::SlowStart(1));
}

#[test]
fn each_failed_probe_doubles_the_wait_up_to_five_minutes_and_a_success_halves_it() {
    let breaker = opened(0);
    let mut now = OPEN_MS;
    for wait in [20_000, 40_000, 80_000, 160_000, 300_000, 300_000] {
        assert_eq!(breaker.enter(Moment(now)), Some(Pass::Probe));
        assert!(breaker.failure(Pass::Probe, Moment(now), wait * 2 / 10));
        assert_eq!(breaker.state(Moment(now + wait - 1)), State::Open, "{wait}");
        now += wait;
        assert_eq!(breaker.state(Moment(now)), State::HalfOpen, "{wait}");
    }
}

/// Its traffic comes back step by step: no herd.
#[test]
fn fault_76_slow_start() {
    let breaker = opened(0);
    assert_eq!(breaker.enter(Moment(OPEN_MS)), Some(Pass::Probe));
    breaker.success(Pass::Probe, Moment(OPEN_MS));
    breaker.leave(Pass::Probe);
    for (after, limit) in [(0, 1), (DOUBLING_MS, 2), (2 * DOUBLING_MS, 4), (9 * DOUBLING_MS, 512)] {
        let now = Moment(OPEN_MS + after);
        let passed = std::iter::from_fn(|| breaker.enter(now)).take(1000).count();
        assert_eq!(passed, limit, "{after} ms after");
        (0..passed).for_each(|_| breaker.leave(Pass::Slow));
    }
    assert_eq!(breaker.enter(Moment(OPEN_MS + SLOW_START_MS)), Some(Pass::Free));
}

#[test]
fn half_of_twenty_is_too_much_even_when_never_five_in_a_row() {
    let breaker = Breaker::default();
    let opened = (0..20).any(|turn| {
        let now = Moment(turn * 1000);
        if turn % 2 == 0 {
            breaker.success(Pass::Free, now)
        }
        turn % 2 == 1 && breaker.failure(Pass::Free, now, EVEN)
    });
    assert!(opened);
    assert_eq!(breaker.state(Moment(19_001)), State::Open);
}

#[test]
fn in_a_panic_a_success_is_as_good_as_a_probe_and_a_failure_changes_nothing() {
    let breaker = opened(0);
    assert!(!breaker.failure(Pass::Panic, Moment(1), EVEN));
    assert_eq!(breaker.state(Moment(OPEN_MS)), State::HalfOpen, "it did not get longer");
    breaker.success(Pass::Free, Moment(2));
    assert_eq!(breaker.state(Moment(2)), State::Open, "whoever began before says nothing");
    breaker.success(Pass::Panic, Moment(3));
    assert_eq!(breaker.state(Moment(3)), State::SlowStart(1));
}

/// The breaker told by a list of everything that happened since it was last closed for good.
#[derive(Default)]
struct Model {
    history: Vec<(u64, bool)>,
    doublings: u32,
    open_until: Option<u64>,
    probing: bool,
    slow_since: Option<u64>,
}

impl Model {
    fn enters(&self, now: u64) -> bool {
        match self.open_until {
            Some(until) => now >= until && !self.probing,
            None => true,
        }
    }

    fn end(&mut self, now: u64, failed: bool) {
        if !failed {
            self.doublings = self.doublings.saturating_sub(1);
        }
        if self.open_until.is_some() {
            self.probing = false;
            if failed {
                self.open(now);
            } else {
                (self.open_until, self.slow_since) = (None, Some(now));
                self.history.clear();
            }
            return;
        }
        self.history.push((now, failed));
        let row = self.history.iter().rev().take_while(|(_, failed)| *failed).count();
        let recent: Vec<_> = self.history.iter().filter(|(at, _)| at / STEP_MS + STEPS > now / STEP_MS).collect();
        let bad = recent.iter().filter(|(_, failed)| *failed).count();
        if failed && (row >= 5 || (recent.len() >= 20 && bad * 2 >= recent.len())) {
            self.open(now);
        }
    }

    fn open(&mut self, now: u64) {
        let wait = (10_000_u64 << self.doublings).min(300_000);
        self.open_until = Some(now + wait);
        self.doublings += 1;
        self.history.clear();
    }
}

proptest! {
    /// One request after the other, each with its outcome, none, or a silent end.
    #[test]
    fn it_does_what_the_model_does(
        events in prop::collection::vec((0u64..4000, prop_oneof![3 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)]), 1..300)
    ) {
        let (breaker, mut model, mut now) = (Breaker::default(), Model::default(), 0);
        for (pause, failed) in events {
            now += pause;
            let pass = breaker.enter(Moment(now));
            prop_assert_eq!(pass.is_some(), model.enters(now), "at {}", now);
            let Some(pass) = pass else { continue };
            let wait = (10_000_u64 << model.doublings).min(300_000);
            match failed {
                Some(true) => drop(breaker.failure(pass, Moment(now), wait * 2 / 10)),
                Some(false) => breaker.success(pass, Moment(now)),
                None => {}
            }
            breaker.leave(pass);
            if let Some(failed) = failed { model.end(now, failed) }
        }
    }

    /// However it is jittered, it is never open longer than five minutes, nor shorter than eight seconds.
    #[test]
    fn the_time_of_being_open_is_bounded(doublings in 0u32..17, random: u64) {
        let wait = open_for(doublings, random);
        prop_assert!((8000..=MAX_OPEN_MS).contains(&wait));
    }
}
