//! Rate limits and budgets as a caller meets them.

use jiff::Timestamp;
use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::money::{Money, PICO_PER_DOLLAR};

fn when(ms: u64, at: &str) -> When {
    When { ms, at: at.parse().unwrap() }
}

fn noon() -> When {
    when(0, "2026-11-30T12:00:00Z")
}

fn usd(dollars: u128) -> Money {
    Money(dollars * PICO_PER_DOLLAR)
}

fn amount(tokens: u64, dollars: u128) -> Amount {
    Amount { tokens, cost: usd(dollars) }
}

fn take(account: &Arc<Account>, allowance: &Allowance, amount: Amount, when: When) -> Result<Reservation, Refusal> {
    Reservation::take(&[Subject { what: "workspace", allowance, account }], amount, when)
}

#[test]
fn five_hundred_at_once_do_not_pass_a_limit_of_ten() {
    let allowance = Allowance { requests_per_minute: Some(10), ..Allowance::default() };
    let account = Arc::default();
    let passed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..500)
            .map(|_| scope.spawn(|| usize::from(take(&account, &allowance, amount(1, 0), noon()).is_ok())))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(passed, 10);
}

#[test]
fn money_of_requests_under_way_counts_until_they_are_settled() {
    let allowance = Allowance { per_day: Some(usd(10)), ..Allowance::default() };
    let account = Arc::default();
    let first = take(&account, &allowance, amount(0, 6), noon()).unwrap();
    let refusal = take(&account, &allowance, amount(0, 6), noon()).unwrap_err();
    assert_eq!((refusal.limit, refusal.wait), (Limit::Day, Duration::from_secs(12 * 3600)));
    first.settle(amount(0, 3));
    take(&account, &allowance, amount(0, 6), noon()).unwrap().settle(amount(0, 6));
    assert!(take(&account, &allowance, amount(0, 2), noon()).is_err(), "9 of 10 are spent");
    assert!(take(&account, &allowance, amount(0, 1), noon()).is_ok());
}

#[test]
fn a_new_day_has_a_new_budget_and_a_month_goes_on() {
    let allowance = Allowance { per_day: Some(usd(10)), per_month: Some(usd(15)), ..Allowance::default() };
    let account = Arc::default();
    let day = |day: &str| when(0, &format!("2026-11-{day}T12:00:00Z"));
    take(&account, &allowance, amount(0, 10), day("29")).unwrap().settle(amount(0, 10));
    assert_eq!(take(&account, &allowance, amount(0, 1), day("29")).unwrap_err().limit, Limit::Day);
    take(&account, &allowance, amount(0, 5), day("30")).unwrap().settle(amount(0, 5));
    assert_eq!(take(&account, &allowance, amount(0, 1), day("30")).unwrap_err().limit, Limit::Month);
    assert!(take(&account, &allowance, amount(0, 10), when(0, "2026-12-01T00:00:00Z")).is_ok());
}

#[test]
fn a_spent_budget_stops_what_has_no_price_too() {
    let allowance = Allowance { per_month: Some(usd(1)), ..Allowance::default() };
    let account = Arc::new(Account::default());
    account.spent_before(date(2026, 11, 3), usd(1));
    assert_eq!(take(&account, &allowance, amount(9, 0), noon()).unwrap_err().limit, Limit::Month);
}

#[test]
fn what_was_spent_before_a_restart_still_counts_on_its_day_only() {
    let allowance = Allowance { per_day: Some(usd(2)), ..Allowance::default() };
    let account = Arc::new(Account::default());
    account.spent_before(date(2026, 11, 29), usd(2));
    assert!(take(&account, &allowance, amount(0, 1), noon()).is_ok());
    account.spent_before(date(2026, 11, 30), usd(2));
    assert!(take(&account, &allowance, amount(0, 1), noon()).is_err());
}

#[test]
fn a_request_that_its_workspace_refuses_takes_nothing_from_its_key() {
    let (key, workspace): (Arc<Account>, Arc<Account>) = Default::default();
    let (many, none) = (
        Allowance { requests_per_minute: Some(5), ..Allowance::default() },
        Allowance { requests_per_minute: Some(0), ..Allowance::default() },
    );
    let subjects = [
        Subject { what: "virtual key", allowance: &many, account: &key },
        Subject { what: "workspace", allowance: &none, account: &workspace },
    ];
    let refusal = Reservation::take(&subjects, amount(1, 0), noon()).unwrap_err();
    assert_eq!((refusal.limit, refusal.whose), (Limit::Requests, "workspace"));
    assert_eq!(standing(&subjects[..1], noon()).requests.unwrap().remaining, 5);
    assert_eq!(standing(&subjects, noon()).requests.unwrap().remaining, 0, "the tighter of both is told");
}

#[test]
fn refusals_speak_as_openai_does() {
    let allowance = Allowance { tokens_per_minute: Some(100), per_day: Some(Money::ZERO), ..Allowance::default() };
    let budget: Error = take(&Arc::default(), &allowance, amount(1, 0), noon()).unwrap_err().into();
    assert_eq!(
        (budget.status(), budget.code(), budget.error_type()),
        (429, "insufficient_quota", "insufficient_quota")
    );
    let allowance = Allowance { per_day: None, ..allowance };
    let account = Arc::default();
    let _held = take(&account, &allowance, amount(100, 0), noon()).unwrap();
    let tokens: Error = take(&account, &allowance, amount(50, 0), noon()).unwrap_err().into();
    assert_eq!((tokens.status(), tokens.code(), tokens.error_type()), (429, "rate_limit_exceeded", "tokens"));
    assert_eq!(tokens.retry_after(), Some(Duration::from_secs(30)));
}

#[test]
fn resets_are_written_as_go_writes_durations() {
    let written = [0, 120, 1000, 1500, 60_000, 360_000, 3_661_000].map(go_duration);
    assert_eq!(written, ["0ms", "120ms", "1s", "1.5s", "1m0s", "6m0s", "1h1m1s"]);
}

proptest! {
    /// Whatever order requests come and end in, the money that is spent or reserved never passes the budget, as long as no
    /// request costs more than it was expected to.
    #[test]
    fn a_budget_is_never_passed(steps in prop::collection::vec((1_u128..5, 0_u128..5, any::<bool>()), 1..200)) {
        let allowance = Allowance { per_day: Some(usd(20)), ..Allowance::default() };
        let account: Arc<Account> = Arc::default();
        let (mut open, mut spent) = (Vec::new(), 0);
        for (ask, used, ends) in steps {
            if ends && !open.is_empty() {
                let (reservation, asked): (Reservation, u128) = open.remove(0);
                let used = used.min(asked);
                reservation.settle(amount(0, used));
                spent += used;
            } else if let Ok(reservation) = take(&account, &allowance, amount(0, ask), noon()) {
                open.push((reservation, ask));
            }
            let reserved: u128 = open.iter().map(|(_, asked)| asked).sum();
            prop_assert!(spent + reserved <= 20);
        }
        drop(open);
        let left = 20 - spent;
        prop_assert_eq!(take(&account, &allowance, amount(0, left), noon()).is_ok(), left > 0, "what was reserved is free again");
    }
}

#[test]
fn the_clock_of_a_request_may_lie_before_the_newest() {
    let account: Arc<Account> = Arc::default();
    let allowance = Allowance { requests_per_minute: Some(1), ..Allowance::default() };
    let late = When { ms: 90_000, at: Timestamp::UNIX_EPOCH };
    assert!(take(&account, &allowance, amount(0, 0), late).is_ok());
    assert!(take(&account, &allowance, amount(0, 0), noon()).is_err());
}
