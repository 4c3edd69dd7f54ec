//! Providers that speak OpenAI's dialect: one row of constants each, with the reason for every deviation.
//!
//! A role `developer` becomes `system` wherever it is not known to be understood: the meaning is the same, and the refusal is
//! certain where it is not (DeepSeek: "unknown variant `developer`"). Rows for model servers on one's own machines name the
//! address that the server has by default; the operator allows it in `allow_private_upstreams`.

use super::{Choices, OpenAi, Provider};

/// The older name of the token limit. Every compatible provider knows it; the newer one came late or not at all.
const MAX_TOKENS: &[(&str, &str)] = &[("max_tokens", "max_completion_tokens")];

/// Groq (console.groq.com/docs/openai).
pub static GROQ: Provider = Provider {
    name: "groq",
    base_url: "https://api.groq.com/openai/v1",
    key_variable: "GROQ_API_KEY",
    prefixes: &["groq/", "compound-"],
    keyless: false,
    dialect: &OpenAi {
        // The first three are "400 if supplied", says Groq's page on OpenAI compatibility. `metadata` and `store` are "not
        // currently supported" (groq-python). Every other property that it does not know is a 400, "property is unsupported".
        unsupported: &[
            "logprobs",
            "top_logprobs",
            "logit_bias",
            "metadata",
            "store",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "verbosity",
            "web_search_options",
        ],
        // Its own words are `auto`, `on_demand` (the default), `flex`, `performance`.
        unsaid: &[("service_tier", "\"default\""), ("modalities", "[\"text\"]")],
        // The page's list has `messages[].name`; properties that it does not know are refused here, too.
        message_known: &["role", "content", "tool_calls", "tool_call_id", "function_call", "reasoning"],
        // The name in its answers; `reasoning_content` is a property that it does not know.
        reasoning: "reasoning",
        // "reasoning is not supported with this model".
        reasoning_models: &["gpt-oss", "qwen", "deepseek-r1"],
        // The same page: "n must be 1".
        single_choice: true,
        ..OpenAi::PLAIN
    },
};

/// DeepSeek (api-docs.deepseek.com, "Create Chat Completion").
pub static DEEPSEEK: Provider = Provider {
    name: "deepseek",
    base_url: "https://api.deepseek.com",
    key_variable: "DEEPSEEK_API_KEY",
    prefixes: &["deepseek-chat", "deepseek-reasoner", "deepseek-v", "deepseek-flash"],
    keyless: false,
    dialect: &OpenAi {
        renamed: MAX_TOKENS,
        // "unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`".
        developer: false,
        // The page has no `n`; it would be ignored in silence.
        single_choice: true,
        // The page has `text` and `json_object` only.
        json_schema: false,
        ..OpenAi::PLAIN
    },
};

/// xAI (docs.x.ai, "Chat completions").
pub static XAI: Provider = Provider {
    name: "xai",
    base_url: "https://api.x.ai/v1",
    key_variable: "XAI_API_KEY",
    prefixes: &["grok-"],
    keyless: false,
    dialect: &OpenAi {
        developer: false,
        // "Not supported by reasoning models", says its page on reasoning: an error, even for a value that asks for nothing.
        unsaid: &[("frequency_penalty", "0"), ("presence_penalty", "0")],
        // `usage.cost_in_usd_ticks`.
        reports_cost: true,
        ..OpenAi::PLAIN
    },
};

/// OpenRouter (openrouter.ai/docs/api/reference).
pub static OPENROUTER: Provider = Provider {
    name: "openrouter",
    base_url: "https://openrouter.ai/api/v1",
    key_variable: "OPENROUTER_API_KEY",
    prefixes: &["openrouter/"],
    keyless: false,
    dialect: &OpenAi {
        // The name in its answers and in its requests.
        reasoning: "reasoning",
        // Its list of models is public, so it would say nothing about a key.
        probe: "/key",
        // `usage.cost`, in credits of one dollar each.
        reports_cost: true,
        ..OpenAi::PLAIN
    },
};

/// Together AI (docs.together.ai/reference/chat-completions).
pub static TOGETHER: Provider = Provider {
    name: "together",
    base_url: "https://api.together.xyz/v1",
    key_variable: "TOGETHER_API_KEY",
    prefixes: &["together/"],
    keyless: false,
    dialect: &OpenAi {
        renamed: MAX_TOKENS,
        // The name in its answers.
        reasoning: "reasoning",
        developer: false,
        ..OpenAi::PLAIN
    },
};

/// Fireworks AI (docs.fireworks.ai/api-reference/post-chatcompletions).
pub static FIREWORKS: Provider = Provider {
    name: "fireworks",
    base_url: "https://api.fireworks.ai/inference/v1",
    key_variable: "FIREWORKS_API_KEY",
    prefixes: &["accounts/fireworks/"],
    keyless: false,
    dialect: &OpenAi {
        renamed: MAX_TOKENS,
        // "Extra inputs are not permitted", for everything that the page does not have.
        unsupported: &["prompt_cache_retention", "safety_identifier", "store", "verbosity", "web_search_options"],
        developer: false,
        ..OpenAi::PLAIN
    },
};

/// Perplexity (docs.perplexity.ai/api-reference/chat-completions-post). `citations` and `search_results` pass as they are.
pub static PERPLEXITY: Provider = Provider {
    name: "perplexity",
    base_url: "https://api.perplexity.ai",
    key_variable: "PERPLEXITY_API_KEY",
    prefixes: &["sonar"],
    keyless: false,
    dialect: &OpenAi {
        renamed: MAX_TOKENS,
        developer: false,
        // Every recorded chunk has the usage so far, and the page has no `stream_options`.
        usage_unasked: true,
        // `usage.cost.total_cost`.
        reports_cost: true,
        ..OpenAi::PLAIN
    },
};

/// Cerebras (inference-docs.cerebras.ai/resources/openai).
pub static CEREBRAS: Provider = Provider {
    name: "cerebras",
    base_url: "https://api.cerebras.ai/v1",
    key_variable: "CEREBRAS_API_KEY",
    prefixes: &["cerebras/"],
    keyless: false,
    dialect: &OpenAi {
        // Its page on OpenAI compatibility listed the first three under "will result in a 400 error". Every other property that
        // it does not know is a 400 or a 422, `wrong_api_format`.
        unsupported: &[
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
            "metadata",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "store",
            "verbosity",
            "web_search_options",
        ],
        // Its own words are `auto` and `default`, which are what it does anyway; older versions knew none.
        unsaid: &[("service_tier", "\"auto\""), ("service_tier", "\"default\""), ("modalities", "[\"text\"]")],
        // Properties that it does not know are refused here, too.
        message_known: &["role", "content", "name", "tool_calls", "tool_call_id", "reasoning"],
        // The name in its answers; `reasoning_content` is a property that it does not know.
        reasoning: "reasoning",
        // The same page: "Our implementation does not expose developer directly".
        developer: false,
        ..OpenAi::PLAIN
    },
};

/// Moonshot AI (platform.moonshot.ai/docs/api/chat), its address outside of China.
pub static MOONSHOT: Provider = Provider {
    name: "moonshot",
    base_url: "https://api.moonshot.ai/v1",
    key_variable: "MOONSHOT_API_KEY",
    prefixes: &["kimi-", "moonshot-"],
    keyless: false,
    dialect: &OpenAi { renamed: MAX_TOKENS, developer: false, ..OpenAi::PLAIN },
};

/// Alibaba Cloud Model Studio in OpenAI-compatible mode, its address outside of China; a key of the mainland needs the
/// `base_url` `https://dashscope.aliyuncs.com/compatible-mode/v1`.
pub static ALIBABA: Provider = Provider {
    name: "alibaba",
    base_url: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    key_variable: "DASHSCOPE_API_KEY",
    prefixes: &["qwen-", "qwen3-", "qwen3.", "qwq-", "qvq-"],
    keyless: false,
    dialect: &OpenAi { renamed: MAX_TOKENS, developer: false, ..OpenAi::PLAIN },
};

/// Z.AI (docs.z.ai/api-reference/llm/chat-completion).
pub static ZAI: Provider = Provider {
    name: "zai",
    base_url: "https://api.z.ai/api/paas/v4",
    key_variable: "ZAI_API_KEY",
    prefixes: &["glm-"],
    keyless: false,
    dialect: &OpenAi {
        renamed: MAX_TOKENS,
        developer: false,
        // The page has no `n`; it would be ignored in silence.
        single_choice: true,
        // The page has `text` and `json_object` only.
        json_schema: false,
        // "Tool choice must be auto".
        tool_choice: Choices::Auto,
        ..OpenAi::PLAIN
    },
};

/// Hugging Face's router (huggingface.co/docs/inference-providers): many providers behind it, so what all of them know.
pub static HUGGINGFACE: Provider = Provider {
    name: "huggingface",
    base_url: "https://router.huggingface.co/v1",
    key_variable: "HF_TOKEN",
    prefixes: &["huggingface/"],
    keyless: false,
    dialect: &OpenAi { renamed: MAX_TOKENS, developer: false, ..OpenAi::PLAIN },
};

/// NVIDIA NIM (docs.api.nvidia.com/nim/reference/llm-apis).
pub static NVIDIA: Provider = Provider {
    name: "nvidia",
    base_url: "https://integrate.api.nvidia.com/v1",
    key_variable: "NVIDIA_API_KEY",
    prefixes: &["nvidia/"],
    keyless: false,
    dialect: &OpenAi { renamed: MAX_TOKENS, developer: false, ..OpenAi::PLAIN },
};

/// SambaNova Cloud (docs.sambanova.ai).
pub static SAMBANOVA: Provider = Provider {
    name: "sambanova",
    base_url: "https://api.sambanova.ai/v1",
    key_variable: "SAMBANOVA_API_KEY",
    prefixes: &["sambanova/"],
    keyless: false,
    dialect: &OpenAi { renamed: MAX_TOKENS, developer: false, ..OpenAi::PLAIN },
};

/// vLLM's server (docs.vllm.ai). A model's chat template decides about roles; few know `developer`.
pub static VLLM: Provider = Provider {
    name: "vllm",
    base_url: "http://localhost:8000/v1",
    key_variable: "",
    prefixes: &["vllm/"],
    keyless: true,
    dialect: &OpenAi { developer: false, ..OpenAi::PLAIN },
};

/// llama.cpp's server (github.com/ggml-org/llama.cpp, tools/server). What it can't do it answers with 500 or 501, so that such a
/// request goes on to the next candidate.
pub static LLAMACPP: Provider = Provider {
    name: "llamacpp",
    base_url: "http://localhost:8080/v1",
    key_variable: "",
    prefixes: &["llamacpp/"],
    keyless: true,
    dialect: &OpenAi { renamed: MAX_TOKENS, developer: false, ..OpenAi::PLAIN },
};

/// LM Studio's server (lmstudio.ai/docs/app/api/endpoints/openai).
pub static LMSTUDIO: Provider = Provider {
    name: "lmstudio",
    base_url: "http://localhost:1234/v1",
    key_variable: "",
    prefixes: &["lmstudio/"],
    keyless: true,
    dialect: &OpenAi {
        renamed: MAX_TOKENS,
        developer: false,
        // "'response_format.type' must be 'json_schema' or 'text'".
        json_object: false,
        // "Supported string values: none, auto, required".
        tool_choice: Choices::Words,
        ..OpenAi::PLAIN
    },
};

/// Voyage AI (docs.voyageai.com/reference/embeddings-api).
pub static VOYAGE: Provider = Provider {
    name: "voyage",
    base_url: "https://api.voyageai.com/v1",
    key_variable: "VOYAGE_API_KEY",
    prefixes: &["voyage-"],
    keyless: false,
    dialect: &OpenAi {
        chat: false,
        // "input: string or List[string]".
        embeds_tokens: false,
        renamed: &[("output_dimension", "dimensions")],
        // It knows `base64` or nothing.
        unsaid: &[("encoding_format", "\"float\"")],
        // The page has none.
        unsupported: &["user"],
        ..OpenAi::PLAIN
    },
};

/// Any other server of this dialect: the credential says where. Nothing is known of it, so nothing is changed.
pub static CUSTOM: Provider =
    Provider { name: "custom", base_url: "", key_variable: "", prefixes: &[], keyless: true, dialect: &OpenAi::PLAIN };
