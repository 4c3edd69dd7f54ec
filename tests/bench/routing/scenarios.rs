//! What is played.

use perpetuo::api::strategy::StrategyName::{self, Cheapest, Fastest, Reliable};

use crate::provider::{Phase, Provider, What};

/// Providers, traffic, and the strategies that it is about.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) providers: Vec<Provider>,
    pub(crate) strategies: Vec<StrategyName>,
    /// Seconds in which every provider is out.
    pub(crate) out: Option<(f64, f64)>,
}

impl Scenario {
    /// Whether money is what counts.
    pub(crate) fn by_cost(&self) -> bool {
        self.strategies.contains(&Cheapest)
    }

    /// Whether every provider is out at this millisecond.
    pub(crate) fn is_out(&self, at: f64) -> bool {
        self.out.is_some_and(|(from, to)| (from * 1000.0..to * 1000.0).contains(&at))
    }
}

fn during(from: f64, to: f64, what: What) -> Vec<Phase> {
    vec![Phase { from, to, what }]
}

/// Four providers, the first the quickest, with this happening to the first.
fn four(phases: Vec<Phase>) -> Vec<Provider> {
    let plain = |ttft, tpot| Provider { ttft, tpot, errors: 0.0005, ..Provider::default() };
    let first = Provider { phases, ..plain(300.0, 6.0) };
    vec![first, plain(450.0, 9.0), plain(400.0, 14.0), plain(900.0, 12.0)]
}

fn scenario(name: &'static str, rate: f64, providers: Vec<Provider>) -> Scenario {
    Scenario { name, rate, seconds: 600.0, providers, strategies: vec![Fastest], out: None }
}

/// Everything that happens in the course of a bad day, at once.
fn mixed() -> Vec<Provider> {
    let mut all = four(vec![
        Phase { from: 100.0, to: 220.0, what: What::Limit(2.0, 10) },
        Phase { from: 400.0, to: 460.0, what: What::Errors(1.0) },
    ]);
    all[1].phases = during(250.0, 380.0, What::Slow(8.0));
    all[2].phases = during(0.0, 600.0, What::Drift(2.0));
    all
}

fn erring(rates: [f64; 4]) -> Vec<Provider> {
    let mut all = four(during(150.0, 210.0, What::Errors(0.6)));
    all.iter_mut().zip(rates).for_each(|(provider, errors)| provider.errors = errors);
    all[1].phases = during(400.0, 430.0, What::Errors(1.0));
    all
}

fn priced() -> Vec<Provider> {
    let plain = |price, tokens| Provider { price, tokens, errors: 0.001, ..Provider::default() };
    let mut all = vec![plain((0.5, 4.0), 1.3), plain((1.0, 1.5), 1.0), plain((0.6, 3.0), 1.1), plain((3.0, 15.0), 1.0)];
    all[1].phases = during(200.0, 260.0, What::Errors(1.0));
    all
}

/// Every scenario.
pub(crate) fn all() -> Vec<Scenario> {
    let everywhere = |what: What| {
        let mut all = four(Vec::new());
        all.iter_mut().for_each(|provider| provider.phases = during(200.0, 320.0, what));
        all
    };
    let mut herd = four(during(120.0, 200.0, What::Errors(1.0)));
    herd.iter_mut().for_each(|provider| provider.capacity = 60.0);
    let out = |mut scenario: Scenario| {
        scenario.out = Some((200.0, 320.0));
        scenario.strategies.push(Reliable);
        scenario
    };
    let reliable = |scenario| Scenario { strategies: vec![Reliable], ..scenario };
    let cheapest = |scenario| Scenario { strategies: vec![Cheapest], ..scenario };
    let errors = [0.04, 0.06, 0.002, 0.05];
    vec![
        scenario("steady", 20.0, four(Vec::new())),
        scenario("slow drift", 20.0, four(during(60.0, 600.0, What::Drift(4.0)))),
        scenario("8x slowdown", 20.0, four(during(120.0, 360.0, What::Slow(8.0)))),
        scenario("fast 429", 20.0, four(during(60.0, 600.0, What::Limit(4.0, 5)))),
        scenario("flapping", 20.0, four(during(0.0, 600.0, What::Flap(20.0)))),
        scenario("hanging", 20.0, four(during(120.0, 240.0, What::Hang))),
        scenario("outage and herd", 20.0, herd),
        Scenario { seconds: 600.0, ..scenario("mixed, 0.5 rps", 0.5, mixed()) },
        scenario("mixed, 20 rps", 20.0, mixed()),
        scenario("mixed, 200 rps", 200.0, mixed()),
        out(scenario("total outage, 50 rps", 50.0, everywhere(What::Errors(1.0)))),
        out(scenario("total silence, 50 rps", 50.0, everywhere(What::Hang))),
        reliable(scenario("errors, 0.5 rps", 0.5, erring(errors))),
        reliable(scenario("errors, 20 rps", 20.0, erring(errors))),
        cheapest(scenario("prices and caches, 2 rps", 2.0, priced())),
        cheapest(scenario("prices and caches, 20 rps", 20.0, priced())),
    ]
}
