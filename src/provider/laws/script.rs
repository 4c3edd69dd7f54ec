//! One small stream, one answer and one error body of every dialect, written by hand: words, reasoning, a call, usage.

use crate::frames::Framing;
use crate::provider::Provider;

/// What a dialect's upstream says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    /// The model that is asked.
    pub(super) model: &'static str,
    /// Other models, of which the dialect may know other rules.
    pub(super) others: &'static [&'static str],
    /// What the names of such models begin with.
    pub(super) family: &'static str,
    /// A whole stream: the name of each event, where the framing has names, and its data.
    pub(super) events: &'static [(&'static str, &'static str)],
    /// A block of a type that does not exist yet, to stand anywhere between two events.
    pub(super) strange: &'static [(&'static str, &'static str)],
    /// A whole answer.
    pub(super) answer: &'static str,
    /// A whole answer of embeddings; empty where there are none.
    pub(super) embeddings: &'static str,
    /// An error body.
    pub(super) error: &'static str,
}

impl Script {
    /// The bytes of each event.
    pub(super) fn frames(&self, framing: Framing) -> Vec<Vec<u8>> {
        self.events.iter().map(|(name, data)| frame(framing, name, data)).collect()
    }
}

/// The scripts of a provider: one for each API that it speaks.
pub(super) fn scripts(provider: &Provider) -> &'static [&'static Script] {
    match provider.name {
        "anthropic" => &[ANTHROPIC],
        "bedrock" => &[BEDROCK],
        "cohere" => &[COHERE],
        "gemini" => &[GEMINI],
        "vertex" => &[GEMINI, ANTHROPIC],
        "mistral" => &[MISTRAL],
        "ollama" => &[OLLAMA],
        _ => &[OPENAI, OPENAI_TWICE],
    }
}

/// One event in this framing.
pub(super) fn frame(framing: Framing, name: &str, data: &str) -> Vec<u8> {
    match framing {
        Framing::Sse if name.is_empty() => format!("data: {data}\n\n").into_bytes(),
        Framing::Sse => format!("event: {name}\ndata: {data}\n\n").into_bytes(),
        Framing::NdJson => format!("{data}\n").into_bytes(),
        Framing::AwsEventStream => aws_message(&[(":message-type", "event"), (":event-type", name)], data.as_bytes()),
    }
}

/// A message of AWS's binary framing with these headers, all of them texts.
pub(super) fn aws_message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.push(u8::try_from(name.len()).unwrap());
        encoded.extend_from_slice(name.as_bytes());
        encoded.push(7);
        encoded.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        encoded.extend_from_slice(value.as_bytes());
    }
    let total = u32::try_from(16 + encoded.len() + payload.len()).unwrap();
    let mut bytes = [total.to_be_bytes(), u32::try_from(encoded.len()).unwrap().to_be_bytes()].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&encoded);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

const OPENAI: &Script = &Script {
    model: "gpt-4o",
    others: &["gpt-5", "o3"],
    family: "",
    events: &[
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"reasoning":"Hm"},"finish_reason":null}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Grüezi 👋\n"},"finish_reason":null}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]},"finish_reason":null}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#,
        ),
        ("", "[DONE]"),
    ],
    strange: &[(
        "",
        r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"tomorrow":{"type":"tomorrow"}},"finish_reason":null}],"usage":null}"#,
    )],
    answer: r#"{"id":"c","object":"chat.completion","created":7,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning":"Hm","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4}}}"#,
    embeddings: r#"{"object":"list","model":"e","data":[{"object":"embedding","index":0,"embedding":[0.5,-1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#,
    error: r#"{"error":{"message":"no","type":"invalid_request_error","param":"model","code":"x"}}"#,
};

/// Two choices whose pieces alternate; one is over before the other.
const OPENAI_TWICE: &Script = &Script {
    events: &[
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":1,"delta":{"role":"assistant","content":"b"},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":1,"delta":{"content":"c"},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"gpt-4o","choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#,
        ),
        ("", "[DONE]"),
    ],
    ..*OPENAI
};

const MISTRAL: &Script = &Script {
    model: "mistral-large-latest",
    others: &["magistral-medium-latest"],
    family: "",
    events: &[
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":[{"type":"text","text":"Grüezi"}]},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":" 👋\n"},"finish_reason":null}]}"#,
        ),
        (
            "",
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"","tool_calls":[{"id":"abc123def","function":{"name":"f","arguments":"{\"a\":1}"},"index":0}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#,
        ),
        ("", "[DONE]"),
    ],
    strange: &[(
        "",
        r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":[{"type":"tomorrow","tomorrow":{"a":1}}]},"finish_reason":null}]}"#,
    )],
    answer: r#"{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]},{"type":"text","text":"Hi"}],"tool_calls":[{"id":"abc123def","function":{"name":"f","arguments":{"a":1}}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#,
    embeddings: OPENAI.embeddings,
    error: r#"{"object":"error","message":{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required"}]},"type":"invalid_request_error","param":null,"code":null}"#,
};

const ANTHROPIC: &Script = &Script {
    model: "claude-sonnet-4-5",
    others: &["claude-3-haiku-20240307", "claude-opus-4-1", "claude-opus-5"],
    family: "claude",
    events: &[
        (
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"cache_read_input_tokens":4,"cache_creation_input_tokens":0,"output_tokens":1}}}"#,
        ),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        ),
        ("ping", r#"{"type":"ping"}"#),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
        ),
        ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Grüezi 👋\n"}}"#,
        ),
        ("content_block_stop", r#"{"type":"content_block_stop","index":1}"#),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        ),
        ("content_block_stop", r#"{"type":"content_block_stop","index":2}"#),
        (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":12}}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ],
    strange: &[
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":90,"content_block":{"type":"tomorrow","tomorrow":{"a":1}}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":90,"delta":{"type":"tomorrow_delta","tomorrow":["x"]}}"#,
        ),
        ("content_block_stop", r#"{"type":"content_block_stop","index":90}"#),
    ],
    answer: r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"thinking","thinking":"Hm","signature":"c2ln"},{"type":"text","text":"Hi","citations":[{"type":"char_location","cited_text":"x","document_index":0,"start_char_index":0,"end_char_index":1}]},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":12}}"#,
    embeddings: "",
    error: r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"r"}"#,
};

const GEMINI: &Script = &Script {
    model: "gemini-2.5-flash",
    others: &["gemini-3-pro-preview", "gemini-2.0-flash", "gemma-3-27b-it"],
    family: "",
    events: &[
        (
            "",
            r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true}],"role":"model"},"index":0}],"responseId":"r","modelVersion":"g","usageMetadata":{"promptTokenCount":9,"totalTokenCount":9}}"#,
        ),
        (
            "",
            r#"{"candidates":[{"content":{"parts":[{"text":"Grüezi 👋\n"}],"role":"model"},"index":0}],"responseId":"r","modelVersion":"g"}"#,
        ),
        (
            "",
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"c2ln"}],"role":"model"},"index":0}],"responseId":"r","modelVersion":"g"}"#,
        ),
        (
            "",
            r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"responseId":"r","modelVersion":"g","usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":3,"thoughtsTokenCount":2,"totalTokenCount":14}}"#,
        ),
    ],
    strange: &[(
        "",
        r#"{"candidates":[{"content":{"parts":[{"tomorrow":{"a":1}}],"role":"model"},"index":0}],"responseId":"r","modelVersion":"g"}"#,
    )],
    answer: r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true},{"text":"Hi"},{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"c2ln"}],"role":"model"},"finishReason":"STOP","index":0,"groundingMetadata":{"groundingChunks":[{"web":{"uri":"https://x.org","title":"x"}}],"groundingSupports":[{"segment":{"startIndex":0,"endIndex":2,"text":"Hi"},"groundingChunkIndices":[0]}]}}],"responseId":"r","modelVersion":"g","usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":3,"thoughtsTokenCount":2,"totalTokenCount":14,"promptTokensDetails":[{"modality":"TEXT","tokenCount":9}]}}"#,
    embeddings: r#"{"embeddings":[{"values":[0.5,-1]}],"predictions":[{"embeddings":{"values":[0.5,-1],"statistics":{"token_count":3}}}]}"#,
    error: r#"{"error":{"code":429,"message":"no","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}]}}"#,
};

const BEDROCK: &Script = &Script {
    model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
    others: &["amazon.nova-pro-v1:0", "meta.llama3-3-70b-instruct-v1:0", "openai.gpt-oss-120b-1:0"],
    family: "",
    events: &[
        ("messageStart", r#"{"role":"assistant","p":"ab"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"Hm"}},"p":"ab"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"c2ln"}},"p":"ab"}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0,"p":"ab"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"Grüezi 👋\n"},"p":"ab"}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":1,"p":"ab"}"#),
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":2,"start":{"toolUse":{"name":"f","toolUseId":"tooluse_1"}},"p":"ab"}"#,
        ),
        ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"a\":1}"}},"p":"ab"}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":2,"p":"ab"}"#),
        ("messageStop", r#"{"stopReason":"tool_use","p":"ab"}"#),
        (
            "metadata",
            r#"{"metrics":{"latencyMs":7},"usage":{"inputTokens":9,"outputTokens":5,"totalTokens":14},"p":"ab"}"#,
        ),
    ],
    strange: &[
        ("contentBlockStart", r#"{"contentBlockIndex":90,"start":{"tomorrow":{"a":1}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":90,"delta":{"tomorrow":{"b":["x"]}}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":90}"#),
    ],
    answer: r#"{"metrics":{"latencyMs":7},"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Hm","signature":"c2ln"}}},{"text":"Hi"},{"toolUse":{"toolUseId":"tooluse_1","name":"f","input":{"a":1}}}]}},"stopReason":"tool_use","usage":{"inputTokens":9,"outputTokens":5,"totalTokens":14}}"#,
    embeddings: "",
    error: r#"{"message":"no"}"#,
};

const COHERE: &Script = &Script {
    model: "command-a-03-2025",
    others: &["command-r-08-2024", "command-a-reasoning-08-2025"],
    family: "",
    events: &[
        (
            "message-start",
            r#"{"id":"u","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
        ),
        (
            "content-start",
            r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#,
        ),
        ("content-delta", r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"Hm"}}}}"#),
        ("content-end", r#"{"type":"content-end","index":0}"#),
        (
            "content-start",
            r#"{"type":"content-start","index":1,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        ),
        (
            "content-delta",
            r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"Grüezi 👋\n"}}}}"#,
        ),
        ("content-end", r#"{"type":"content-end","index":1}"#),
        (
            "tool-call-start",
            r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"f_1","type":"function","function":{"name":"f","arguments":""}}}}}"#,
        ),
        (
            "tool-call-delta",
            r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"a\":1}"}}}}}"#,
        ),
        ("tool-call-end", r#"{"type":"tool-call-end","index":0}"#),
        (
            "message-end",
            r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":3,"output_tokens":4},"tokens":{"input_tokens":9,"output_tokens":5}}}}"#,
        ),
        ("", "[DONE]"),
    ],
    strange: &[
        (
            "content-start",
            r#"{"type":"content-start","index":90,"delta":{"message":{"content":{"type":"tomorrow","tomorrow":{"a":1}}}}}"#,
        ),
        ("content-delta", r#"{"type":"content-delta","index":90,"delta":{"message":{"content":{"tomorrow":"x"}}}}"#),
        ("content-end", r#"{"type":"content-end","index":90}"#),
    ],
    answer: r#"{"id":"u","message":{"role":"assistant","content":[{"type":"thinking","thinking":"Hm"},{"type":"text","text":"Hi"}],"tool_plan":"so","tool_calls":[{"id":"f_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}],"citations":[{"start":0,"end":2,"text":"Hi","sources":[{"type":"document","id":"d","document":{"id":"d"}}]}]},"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":3,"output_tokens":4},"tokens":{"input_tokens":9,"output_tokens":5}}}"#,
    embeddings: r#"{"id":"e","embeddings":{"float":[[0.5,-1]]},"texts":["a"],"meta":{"billed_units":{"input_tokens":3}}}"#,
    error: r#"{"id":"e","message":"no"}"#,
};

const OLLAMA: &Script = &Script {
    model: "llama3.2",
    others: &["gpt-oss:20b"],
    family: "",
    events: &[
        (
            "",
            r#"{"model":"llama3.2","created_at":"2026-11-22T10:00:00Z","message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}"#,
        ),
        (
            "",
            r#"{"model":"llama3.2","created_at":"2026-11-22T10:00:00Z","message":{"role":"assistant","content":"Grüezi 👋\n"},"done":false}"#,
        ),
        (
            "",
            r#"{"model":"llama3.2","created_at":"2026-11-22T10:00:00Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"done":false}"#,
        ),
        (
            "",
            r#"{"model":"llama3.2","created_at":"2026-11-22T10:00:00Z","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":7,"prompt_eval_count":9,"eval_count":5}"#,
        ),
    ],
    strange: &[(
        "",
        r#"{"model":"llama3.2","created_at":"2026-11-22T10:00:00Z","message":{"role":"assistant","content":"","tomorrow":[{"type":"tomorrow"}]},"done":false}"#,
    )],
    answer: r#"{"model":"llama3.2","created_at":"2026-11-22T10:00:00Z","message":{"role":"assistant","content":"Hi","thinking":"Hm","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"done_reason":"stop","done":true,"prompt_eval_count":9,"eval_count":5}"#,
    embeddings: r#"{"model":"e","embeddings":[[0.5,-1]],"prompt_eval_count":3}"#,
    error: r#"{"error":"no"}"#,
};
