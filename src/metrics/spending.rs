//! Tokens and money, whose they are, and what of them was wasted. The sums of the ledger, to the last token and pico-dollar.

use std::array::from_fn;
use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use super::labels::{Label, TOKEN_TYPES, WASTES};
use super::make::Maker;
use super::money::{Dollars, MoneyCounter, MoneyCounterVec};
use super::names::{Name, Names};
use super::rows::Rows;
use crate::error::ErrorKind;
use crate::money::Money;
use crate::store::AttemptRecord;
use crate::usage::{Certainty, Usage};

/// The metrics of tokens and money.
pub struct Spending {
    tokens: IntCounterVec,
    reasoning: IntCounterVec,
    cost: MoneyCounterVec,
    unpriced: IntCounterVec,
    wasted: [(IntCounter, MoneyCounter); WASTES.len()],
    spent: Rows<(u32, u8, u32), Spent>,
}

type Kinds = [OnceLock<IntCounter>; TOKEN_TYPES.len()];

/// The handles of a workspace at a model of a provider.
struct Spent {
    labels: [String; 3],
    exact: Kinds,
    estimated: Kinds,
    without_price: Kinds,
    reasoning: OnceLock<IntCounter>,
    cost: OnceLock<MoneyCounter>,
    unpriced: OnceLock<IntCounter>,
}

impl Spent {
    fn new(labels: [&str; 3]) -> Self {
        let kinds = || from_fn(|_| OnceLock::new());
        Self {
            labels: labels.map(str::to_owned),
            exact: kinds(),
            estimated: kinds(),
            without_price: kinds(),
            reasoning: OnceLock::new(),
            cost: OnceLock::new(),
            unpriced: OnceLock::new(),
        }
    }
}

/// Why an attempt was paid for in vain.
#[derive(Clone, Copy)]
enum Waste {
    Retry,
    Hedge,
    Disconnect,
    Failure,
}

impl Waste {
    /// None for what was not in vain.
    fn of(attempt: &AttemptRecord, last: bool) -> Option<Self> {
        let code = attempt.error.as_deref()?;
        Some(if code == ErrorKind::HedgeLost.row().code {
            Self::Hedge
        } else if code == ErrorKind::ClientGone.row().code {
            Self::Disconnect
        } else if last {
            Self::Failure
        } else {
            Self::Retry
        })
    }
}

impl Spending {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        const WHOSE: &[&str] = &["workspace", "provider", "model"];
        const WHY: &[&str] = &["why"];
        let wasted_tokens = maker.counters(
            "perpetuo_wasted_tokens_total",
            "Tokens of attempts that brought a client no complete answer.",
            WHY,
        )?;
        let wasted_cost = maker.money(
            "perpetuo_wasted_cost_usd_total",
            "Dollars of attempts that brought a client no complete answer.",
            WHY,
        )?;
        Ok(Self {
            tokens: maker.counters(
                "perpetuo_tokens_total",
                "Tokens, in kinds that do not overlap.",
                &["workspace", "provider", "model", "type", "certainty"],
            )?,
            reasoning: maker.counters(
                "perpetuo_reasoning_tokens_total",
                "The part of the output tokens that was spent on reasoning.",
                WHOSE,
            )?,
            cost: maker.money("perpetuo_cost_usd_total", "Cost in dollars.", WHOSE)?,
            unpriced: maker.counters("perpetuo_unpriced_total", "Attempts whose price is not known.", WHOSE)?,
            wasted: WASTES.map(|why| (wasted_tokens.with_label_values(&[why]), wasted_cost.with_label_values(&[why]))),
            spent: Rows::default(),
        })
    }

    /// `last` says that no attempt followed this one.
    pub(super) fn observe(
        &self,
        names: &Names,
        workspace: Name<'_>,
        (provider, model): (Label, Name<'_>),
        attempt: &AttemptRecord,
        last: bool,
    ) {
        if let Some(waste) = Waste::of(attempt, last)
            && let Some((tokens, cost)) = self.wasted.get(waste as usize)
        {
            tokens.inc_by(attempt.usage.total_tokens());
            cost.inc_by(Dollars(attempt.cost));
        }
        if attempt.usage == Usage::default() && attempt.cost == Money::ZERO && attempt.certainty == Certainty::Exact {
            return;
        }
        let make = |workspace| Spent::new([workspace, provider.text, model.text]);
        let spend = |spent: &Spent| self.spend(spent, attempt);
        let key = |workspace: Name<'_>| (workspace.number, provider.place, model.number);
        let own = self.spent.with(key(workspace), names.spending_room(), || make(workspace.text), spend);
        if own.is_none() {
            let other = names.no_room();
            self.spent.with(key(other), usize::MAX, || make(other.text), spend);
        }
    }

    fn spend(&self, spent: &Spent, attempt: &AttemptRecord) {
        let AttemptRecord { usage, certainty, .. } = attempt;
        let [workspace, provider, model] = spent.labels.each_ref().map(String::as_str);
        let cells = match certainty {
            Certainty::Exact => &spent.exact,
            Certainty::Estimated => &spent.estimated,
            Certainty::Unpriced => &spent.without_price,
        };
        let counts = [usage.input, usage.cached_read, usage.cache_write, usage.output];
        for ((kind, count), cell) in TOKEN_TYPES.into_iter().zip(counts).zip(cells).filter(|((_, count), _)| *count > 0)
        {
            let make = || self.tokens.with_label_values(&[workspace, provider, model, kind, certainty.as_str()]);
            cell.get_or_init(make).inc_by(count);
        }
        let labels = [workspace, provider, model];
        spent.cost.get_or_init(|| self.cost.with_label_values(&labels)).inc_by(Dollars(attempt.cost));
        if usage.reasoning > 0 {
            spent.reasoning.get_or_init(|| self.reasoning.with_label_values(&labels)).inc_by(usage.reasoning);
        }
        if *certainty == Certainty::Unpriced {
            spent.unpriced.get_or_init(|| self.unpriced.with_label_values(&labels)).inc();
        }
    }
}
