//! Providers that speak OpenAI's dialect: one row of constants each, with the reason for every deviation.

use super::{OpenAi, Provider};

/// Groq (console.groq.com/docs/openai).
pub static GROQ: Provider = Provider {
    name: "groq",
    base_url: "https://api.groq.com/openai/v1",
    key_variable: "GROQ_API_KEY",
    prefixes: &["groq/", "compound-"],
    keyless: false,
    dialect: &OpenAi {
        // "400 if supplied", says Groq's page on OpenAI compatibility; an answer without them is the same answer.
        unsupported: &["logprobs", "top_logprobs", "logit_bias"],
        // The same page: "n must be 1".
        single_choice: true,
    },
};
