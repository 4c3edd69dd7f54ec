"""Providers side by side: how fast, how often they fail, how often they say 429, what they cost."""

from __future__ import annotations

from . import queries as q
from .board import MODEL, PROVIDER, Board, Row, to
from .panels import Column, Query, Sized, from_to, lines, rows

ATTEMPTS = "perpetuo_attempts_total"
BY = "gen_ai_provider_name"
MODELS = "gen_ai_provider_name, gen_ai_request_model"
GEN_AI = (q.GEN_AI_PROVIDER, q.GEN_AI_MODEL)
DURATION = "gen_ai_client_operation_duration_seconds"
FIRST = "gen_ai_client_operation_time_to_first_chunk_seconds"
CHUNK = "gen_ai_client_operation_time_per_output_chunk_seconds"
PACE = "gen_ai_server_time_per_output_token_seconds"
FAILED, LIMITED = 'outcome=~"provider_.+"', 'outcome=~"provider_rate_limited|provider_quota_exhausted"'


def board() -> Board:
    description = "Providers and models side by side, measured at the attempts: without what a retry or the gateway adds."
    rows = [
        Row("At a glance", _glance()),
        Row("Failures", _failures()),
        Row("Speed", _speed()),
        Row("Connections", _connections()),
        Row("By model", _models()),
    ]
    return Board("providers", "Perpetuo / Providers", description, [PROVIDER, MODEL], rows)


def _named(expr: str) -> str:
    """With the label `provider`, as our own metrics have it, to stand in one row with them."""
    return f'label_replace({expr}, "provider", "$1", "{BY}", "(.+)")'


def _share_of(outcome: str, by: str) -> str:
    return q.share(q.count(ATTEMPTS, outcome, q.PROVIDER, q.MODEL, by=by), q.count(ATTEMPTS, q.PROVIDER, q.MODEL, by=by))


def _glance() -> list[Sized]:
    attempts = q.count(ATTEMPTS, q.PROVIDER, q.MODEL, by="provider")
    first = f"sum by (provider) ({_named(q.quantile(0.95, FIRST, *GEN_AI, by=BY, window='$__range'))})"
    duration = f"sum by (provider) ({_named(q.quantile(0.95, DURATION, *GEN_AI, by=BY, window='$__range'))})"
    pace = f"sum by (provider) ({_named(q.quantile(0.5, PACE, *GEN_AI, by=BY, window='$__range'))})"
    tokens = q.count("perpetuo_tokens_total", q.PROVIDER, q.MODEL, 'type="output"', by="provider")
    cost = q.count("perpetuo_cost_usd_total", q.PROVIDER, q.MODEL, by="provider")
    table = rows(
        "Providers",
        "The time shown, a row for each provider that was asked. Failing and limited are shares of attempts.",
        {"provider": "Provider"},
        Column("Attempts", f"{attempts} > 0", "short"),
        Column("Failing", f"{_share_of(FAILED, 'provider')}", "percentunit", from_to(0.02, 0.1)),
        Column("Limited (429)", f"{_share_of(LIMITED, 'provider')}", "percentunit", from_to(0.02, 0.1)),
        Column("First token, p95", first, "s"),
        Column("Whole answer, p95", duration, "s"),
        Column("Between tokens, p50", pace, "s"),
        Column("Output tokens", f"{tokens} > 0", "short"),
        Column("Cost", f"{cost} > 0", "currencyUSD"),
        Column("A million output tokens", f"{cost} * 1e6\n/\n({tokens} > 0) > 0", "currencyUSD"),
        link=("provider", to("providers", "Only this provider", provider="${__value.text}")),
    )
    return [table.wide(24)]


def _failures() -> list[Sized]:
    by, all_of = "provider", q.rate(ATTEMPTS, q.PROVIDER, q.MODEL, by="provider")
    failing = q.share(q.rate(ATTEMPTS, FAILED, q.PROVIDER, q.MODEL, by=by), all_of)
    limited = q.share(q.rate(ATTEMPTS, LIMITED, q.PROVIDER, q.MODEL, by=by), all_of)
    outcomes = q.rate(ATTEMPTS, 'outcome!="ok"', q.PROVIDER, q.MODEL, by="provider, outcome")
    return [
        lines(
            "Failing attempts",
            "Share of attempts that failed through the provider.",
            "percentunit",
            Query(failing, "{{provider}}"),
            most=1,
            limits=from_to(0.05, 0.25),
        ),
        lines(
            "429s",
            "Share of attempts that the provider refused because of its limits, or because the account's quota is used up.",
            "percentunit",
            Query(limited, "{{provider}}"),
            most=1,
            limits=from_to(0.05, 0.25),
        ),
        lines(
            "Failures, by kind",
            "provider_unreachable: DNS, TCP or TLS. provider_timeout: no first token, or silence. provider_protocol_error: an answer that "
            "could not be understood. client_rejected_by_provider: it read the request and refused it.",
            "cps",
            Query(f"{q.top(12, outcomes)} > 0", "{{provider}} {{outcome}}"),
            stacked=True,
        ),
    ]


def _speed() -> list[Sized]:
    rate = q.rate("perpetuo_tokens_total", q.PROVIDER, q.MODEL, 'type="output"', by="provider")
    stream = f"1 / ({q.quantile(0.5, PACE, *GEN_AI, by=BY)} > 0)"
    return [
        lines(
            "Time to first token, p50",
            "From sending to the first content of a stream: half are faster.",
            "s",
            Query(q.quantile(0.5, FIRST, *GEN_AI, by=BY), f"{{{{{BY}}}}}"),
        ),
        lines(
            "Time to first token, p95",
            "The same: 95 % are faster.",
            "s",
            Query(q.quantile(0.95, FIRST, *GEN_AI, by=BY), f"{{{{{BY}}}}}"),
            limits=[(None, "transparent"), (10, "red")],
        ),
        lines(
            "Whole answer, p95",
            "From sending to the end of the answer; 95 % are faster. Long answers take longer.",
            "s",
            Query(q.quantile(0.95, DURATION, *GEN_AI, by=BY), f"{{{{{BY}}}}}"),
        ),
        lines(
            "Tokens a second of one stream, p50",
            "After the first token, of streams that came to their end: half are faster.",
            "suffix: tok/s",
            Query(stream, f"{{{{{BY}}}}}"),
        ),
        lines(
            "Between two chunks, p95",
            "Silence between two pieces of a stream; 95 % are shorter.",
            "s",
            Query(q.quantile(0.95, CHUNK, *GEN_AI, by=BY), f"{{{{{BY}}}}}"),
        ),
        lines(
            "Output tokens a second, in all",
            "What each provider writes, all streams together.",
            "suffix: tok/s",
            Query(f"{rate} > 0", "{{provider}}"),
            stacked=True,
        ),
    ]


def _connections() -> list[Sized]:
    connections = "perpetuo_upstream_connections_total"
    new = q.share(q.rate(connections, q.PROVIDER, 'kind="new"', by="provider"), q.rate(connections, q.PROVIDER, by="provider"))
    return [
        lines(
            "Connections that were not to be had",
            "Attempts for which no connection could be made: DNS, TCP or TLS. All providers at once: your own network.",
            "cps",
            Query(q.rate(connections, q.PROVIDER, 'kind="failed"', by="provider"), "{{provider}}"),
        ),
        lines(
            "New connections",
            "Share of attempts that needed a new connection instead of one from the pool. Rising without less traffic: the provider closes them.",
            "percentunit",
            Query(new, "{{provider}}"),
            most=1,
        ),
        lines(
            "Time to connect",
            "TCP, and TLS where there is one, of new connections.",
            "s",
            Query(q.quantile(0.5, "perpetuo_upstream_connect_seconds", by="tls"), "p50 tls {{tls}}"),
            Query(q.quantile(0.95, "perpetuo_upstream_connect_seconds", by="tls"), "p95 tls {{tls}}"),
        ),
    ]


def _models() -> list[Sized]:
    by = "provider, model"

    def named(expr: str) -> str:
        both = f'label_replace({_named(expr)}, "model", "$1", "gen_ai_request_model", "(.+)")'
        return f"sum by (provider, model) ({both})"

    tokens = q.count("perpetuo_tokens_total", q.PROVIDER, q.MODEL, 'type="output"', by=by)
    table = rows(
        "Models",
        "The time shown, a row for each model at each provider. other: names that the catalogue does not have.",
        {"provider": "Provider", "model": "Model"},
        Column("Attempts", f"{q.count(ATTEMPTS, q.PROVIDER, q.MODEL, by=by)} > 0", "short"),
        Column("Failing", _share_of(FAILED, by), "percentunit", from_to(0.02, 0.1)),
        Column("First token, p95", named(q.quantile(0.95, FIRST, *GEN_AI, by=MODELS, window="$__range")), "s"),
        Column("Whole answer, p95", named(q.quantile(0.95, DURATION, *GEN_AI, by=MODELS, window="$__range")), "s"),
        Column("Output tokens", f"{tokens} > 0", "short"),
        Column("Cost", f"{q.count('perpetuo_cost_usd_total', q.PROVIDER, q.MODEL, by=by)} > 0", "currencyUSD"),
    )
    return [table.wide(24)]
