//! How much a model thinks, how long it may answer, and which sampling parameters that leaves: they forbid one another.
//!
//! Invariant: a bound that the client set is never exceeded; a budget shrinks or goes before it.

use serde_json::Value;

use super::model::{self, MIN_BUDGET, Off, Sampling, Traits};
use super::wire::Thinking;
use crate::error::{Error, Result};
use crate::provider::warnings::Warnings;

/// What is known when it is decided how the model thinks.
pub(in crate::provider) struct Asked<'a> {
    /// OpenAI's `reasoning_effort`.
    pub(in crate::provider) effort: Option<&'a str>,
    /// Anthropic's `thinking`, which wins.
    pub(in crate::provider) given: Option<&'a Value>,
    /// The client's bound of the answer, reasoning included.
    pub(in crate::provider) bound: Option<u64>,
    /// A call is forced, which goes with no budget.
    pub(in crate::provider) forced: bool,
    /// The tool loop came back without the reasoning that it began with, which goes with no budget either.
    pub(in crate::provider) lost: bool,
}

/// How the model thinks, and how long its answer may be.
pub(in crate::provider) struct Reasoning<'a> {
    pub(in crate::provider) thinking: Option<Thinking<'a>>,
    pub(in crate::provider) effort: Option<&'static str>,
    pub(in crate::provider) max_tokens: u64,
}

pub(in crate::provider) fn reasoning<'a>(
    asked: &Asked<'a>,
    traits: &Traits,
    warnings: &mut Warnings,
) -> Result<Reasoning<'a>> {
    let max_tokens = asked.bound.unwrap_or(traits.max_output);
    let chosen = |thinking, effort| Ok(Reasoning { thinking, effort, max_tokens });
    if let Some(effort) = asked.effort.filter(|effort| *effort != "none" && model::effort(effort).is_none()) {
        let known = "none, minimal, low, medium, high, xhigh or max";
        let message = format!("Invalid value for 'reasoning_effort': '{effort}' is not {known}.");
        return Err(Error::invalid("reasoning_effort", message));
    }
    if let Some(given) = asked.given {
        if asked.effort.is_some() {
            warnings.add("reasoning_effort");
        }
        // A loop that has lost its reasoning can only go on without any: the client's own wish would be refused.
        if asked.lost && given.get("type").and_then(Value::as_str) == Some("enabled") {
            warnings.add("thinking");
            return chosen(None, None);
        }
        let budget = given.get("budget_tokens").and_then(Value::as_u64).unwrap_or(0);
        // A bound that the client chose is the client's; our own default must leave room for the budget.
        let room = if asked.bound.is_none() && budget >= max_tokens { budget } else { 0 };
        let max_tokens = max_tokens.saturating_add(room);
        return Ok(Reasoning { thinking: Some(Thinking::Given(given)), effort: None, max_tokens });
    }
    let Some(wanted) = asked.effort else { return chosen(None, None) };
    match traits.thinking {
        model::Thinking::Adaptive { off, .. } if wanted == "none" => {
            let disabled = Thinking::Chosen { r#type: "disabled", budget_tokens: None };
            match off {
                Off::Omit => chosen(None, None),
                Off::Disable => chosen(Some(disabled), None),
                Off::Never => {
                    warnings.add("reasoning_effort");
                    chosen(None, Some("low"))
                }
            }
        }
        model::Thinking::Adaptive { xhigh, .. } => {
            let mut effort = model::effort(wanted);
            if effort == Some("xhigh") && !xhigh {
                warnings.add("reasoning_effort");
                effort = Some("high");
            }
            chosen(Some(Thinking::Chosen { r#type: "adaptive", budget_tokens: None }), effort)
        }
        model::Thinking::Budget | model::Thinking::None if wanted == "none" => chosen(None, None),
        model::Thinking::Budget if !asked.forced && !asked.lost => {
            let thinking = model::budget(wanted).and_then(|budget| fit_budget(budget, max_tokens, warnings));
            chosen(thinking, None)
        }
        model::Thinking::Budget | model::Thinking::None => {
            warnings.add("reasoning_effort");
            chosen(None, None)
        }
    }
}

/// The budget counts against the bound, as reasoning does at OpenAI: it shrinks so that half of the bound is left for the
/// answer, and where Anthropic's smallest budget does not fit, there is no thinking.
fn fit_budget<'a>(budget: u64, max_tokens: u64, warnings: &mut Warnings) -> Option<Thinking<'a>> {
    let fitting = budget.min((max_tokens / 2).max(MIN_BUDGET));
    if fitting < budget || fitting >= max_tokens {
        warnings.add("reasoning_effort");
    }
    (fitting < max_tokens).then_some(Thinking::Chosen { r#type: "enabled", budget_tokens: Some(fitting) })
}

/// The sampling parameters.
pub(in crate::provider) struct Parameters<'a> {
    pub(in crate::provider) temperature: Option<f64>,
    pub(in crate::provider) top_p: Option<f64>,
    pub(in crate::provider) top_k: Option<&'a Value>,
}

impl Parameters<'_> {
    /// Keeps what this model takes; thinking allows only a temperature of 1, a `top_p` from 0.95 and no `top_k`.
    pub(in crate::provider) fn fit(mut self, traits: &Traits, thinks: bool, warnings: &mut Warnings) -> Self {
        if let Some(temperature) = self.temperature.filter(|temperature| !(0.0..=1.0).contains(temperature)) {
            warnings.add("temperature");
            self.temperature = Some(temperature.clamp(0.0, 1.0));
        }
        let fixed = traits.sampling == Sampling::Fixed;
        if (fixed || thinks) && self.temperature.is_some_and(|temperature| temperature != 1.0) {
            warnings.add("temperature");
            self.temperature = None;
        }
        let one = traits.sampling == Sampling::One && self.top_p.is_some_and(|top_p| top_p < 1.0);
        // A temperature of 1 is the default and says nothing beside a `top_p`.
        self.temperature = self.temperature.filter(|temperature| !one || *temperature != 1.0);
        let both = traits.sampling == Sampling::One && self.temperature.is_some();
        let lowest = if fixed || both {
            1.0
        } else if thinks {
            0.95
        } else {
            0.0
        };
        if self.top_p.is_some_and(|top_p| top_p < lowest) {
            warnings.add("top_p");
        }
        self.top_p = self.top_p.filter(|top_p| !fixed && !both && *top_p >= lowest);
        if (fixed || thinks) && self.top_k.take().is_some() {
            warnings.add("top_k");
        }
        Self { temperature: self.temperature.filter(|_| !fixed), ..self }
    }
}
