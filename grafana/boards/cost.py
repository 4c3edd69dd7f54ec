"""Tokens and money: who spends it, on what, what the caches save, what was wasted, what has no price."""

from __future__ import annotations

from . import queries as q
from .board import MODEL, PROVIDER, WORKSPACE, Board, Row
from .panels import NEUTRAL, Column, Query, Sized, from_to, lines, rows, total

ALL = (q.WORKSPACE, q.PROVIDER, q.MODEL)
COST, TOKENS = "perpetuo_cost_usd_total", "perpetuo_tokens_total"
PROMPT = 'type=~"input|cached_read|cache_write"'
WASTE = {"retry": "orange", "hedge": "purple", "disconnect": "blue", "failure": "red"}


def board() -> Board:
    description = "Every figure is the ledger's: all attempts, failed and abandoned ones included. The admin API has the same by virtual key."
    rows = [
        Row("The time shown", _totals()),
        Row("Spend", _spend()),
        Row("What the tokens are", _tokens()),
        Row("Waste, and what has no price", _waste()),
        Row("Limits and budgets", _limits()),
    ]
    return Board(
        "cost", "Perpetuo / Tokens and cost", description, [WORKSPACE, PROVIDER, MODEL], rows, since="now-24h", refresh="1m"
    )


def _totals() -> list[Sized]:
    cached = q.share(q.count(TOKENS, *ALL, 'type="cached_read"'), q.count(TOKENS, *ALL, PROMPT))
    estimated = q.share(q.count(TOKENS, *ALL, 'certainty!="exact"'), q.count(TOKENS, *ALL))
    wasted = q.share(q.count("perpetuo_wasted_cost_usd_total"), q.count(COST))
    per_request = q.share(q.count(COST, q.WORKSPACE), q.count("perpetuo_requests_total", q.WORKSPACE, 'code="200"'))
    small = [
        total("Spent", "Dollars.", "currencyUSD", q.count(COST, *ALL), NEUTRAL),
        total(
            "An answer",
            "Dollars for each request that was answered, over all providers and models.",
            "currencyUSD",
            per_request,
            NEUTRAL,
        ),
        total("Tokens", "Of prompts and answers, cached ones included.", "short", q.count(TOKENS, *ALL), NEUTRAL),
        total(
            "Read from caches",
            "Share of prompt tokens that the provider had cached: they cost a fraction.",
            "percentunit",
            f"{cached} or vector(0)",
            NEUTRAL,
        ),
        total(
            "Not exact",
            "Share of tokens that the provider did not report: estimated, or without a price.",
            "percentunit",
            f"{estimated} or vector(0)",
            from_to(0.02, 0.1),
        ),
        total(
            "Wasted",
            "Share of the money that brought no client a complete answer, over all workspaces.",
            "percentunit",
            f"{wasted} or vector(0)",
            from_to(0.02, 0.1),
        ),
        total(
            "Unpriced attempts",
            "Their cost is missing in the bill.",
            "none",
            f"{q.count('perpetuo_unpriced_total', *ALL)} or vector(0)",
            from_to(0.5, 100),
        ),
        total(
            "Not in the ledger",
            "Bookings that never reached it. Zero, or the bill is incomplete.",
            "none",
            q.count("perpetuo_ledger_dropped_total"),
            from_to(0.5, 1),
        ),
    ]
    return [panel.wide(3) for panel in small]


def _spend() -> list[Sized]:
    per = "workspace, provider, model"
    tokens = q.count(TOKENS, *ALL, by=per)
    output = q.count(TOKENS, *ALL, 'type="output"', by=per)
    return [
        lines(
            "Spend an hour, by app",
            "Dollars an hour at the pace of now, by workspace; the ten largest.",
            "currencyUSD",
            Query(q.top(10, q.per_hour(COST, *ALL, by="workspace")), "{{workspace}}"),
            stacked=True,
        ),
        lines(
            "Spend an hour, by provider",
            "Dollars an hour at the pace of now.",
            "currencyUSD",
            Query(f"{q.per_hour(COST, *ALL, by='provider')} > 0", "{{provider}}"),
            stacked=True,
        ),
        lines(
            "Spend an hour, by model",
            "Dollars an hour at the pace of now; the ten largest.",
            "currencyUSD",
            Query(q.top(10, q.per_hour(COST, *ALL, by="model")), "{{model}}"),
            stacked=True,
        ),
        rows(
            "Who spends it on what",
            "The time shown, the hundred largest. Reasoning is part of the output.",
            {"workspace": "Workspace", "provider": "Provider", "model": "Model"},
            Column("Cost", f"{q.top(100, q.count(COST, *ALL, by=per))} > 0", "currencyUSD"),
            Column("Tokens", f"{tokens} > 0", "short"),
            Column("Output", f"{output} > 0", "short"),
            Column("Reasoning", f"{q.count('perpetuo_reasoning_tokens_total', *ALL, by=per)} > 0", "short"),
            Column(
                "Read from caches",
                q.share(q.count(TOKENS, *ALL, 'type="cached_read"', by=per), q.count(TOKENS, *ALL, PROMPT, by=per)),
                "percentunit",
            ),
            Column("A million tokens", f"{q.count(COST, *ALL, by=per)} * 1e6\n/\n({tokens} > 0) > 0", "currencyUSD"),
        ).wide(24, 10),
    ]


def _tokens() -> list[Sized]:
    cached = q.share(q.rate(TOKENS, *ALL, 'type="cached_read"', by="workspace"), q.rate(TOKENS, *ALL, PROMPT, by="workspace"))
    sizes = "gen_ai_client_token_usage"
    gen_ai = (q.GEN_AI_PROVIDER, q.GEN_AI_MODEL)
    return [
        lines(
            "Tokens a second, by kind",
            "The kinds do not overlap. input: the part of prompts that was not cached; cached_read: the part that was; cache_write: what was put there.",
            "suffix: tok/s",
            Query(q.rate(TOKENS, *ALL, by="type"), "{{type}}"),
            stacked=True,
        ),
        lines(
            "Share of prompts read from caches",
            "By workspace. A fall: an app changes the beginning of its prompts, or its requests go to another provider.",
            "percentunit",
            Query(cached, "{{workspace}}"),
            most=1,
        ),
        lines(
            "Reasoning",
            "Output tokens that were spent on reasoning, by model.",
            "suffix: tok/s",
            Query(f"{q.top(10, q.rate('perpetuo_reasoning_tokens_total', *ALL, by='model'))} > 0", "{{model}}"),
            stacked=True,
        ),
        lines(
            "Size of requests",
            "Tokens of an attempt: input is the whole prompt.",
            "short",
            *(
                Query(q.quantile(which, sizes, *gen_ai, by="gen_ai_token_type"), f"p{which * 100:g} {{{{gen_ai_token_type}}}}")
                for which in (0.5, 0.95)
            ),
        ).wide(12),
        lines(
            "How sure the figures are",
            "Tokens: exact (the provider said so), estimated (it did not), unpriced (no price is known).",
            "suffix: tok/s",
            Query(q.rate(TOKENS, *ALL, by="certainty"), "{{certainty}}"),
            stacked=True,
            colors={"exact": "green", "estimated": "orange", "unpriced": "red"},
        ).wide(12),
    ]


def _waste() -> list[Sized]:
    unpriced = q.count("perpetuo_unpriced_total", *ALL, by="workspace, provider, model")
    return [
        lines(
            "Wasted dollars an hour",
            "Attempts that brought a client no complete answer, over all workspaces. retry: another attempt followed; hedge: another was faster; "
            "disconnect: the client left; failure: it was the last.",
            "currencyUSD",
            Query(q.per_hour("perpetuo_wasted_cost_usd_total", by="why"), "{{why}}"),
            stacked=True,
            colors=WASTE,
        ),
        lines(
            "Wasted tokens a second",
            "The same in tokens.",
            "suffix: tok/s",
            Query(q.rate("perpetuo_wasted_tokens_total", by="why"), "{{why}}"),
            stacked=True,
            colors=WASTE,
        ),
        rows(
            "Attempts without a price",
            "Models that cost something nobody knows. Give them a price in the catalogue: what was booked before stays unpriced.",
            {"workspace": "Workspace", "provider": "Provider", "model": "Model"},
            Column("Attempts", f"{q.top(50, unpriced)} > 0", "short"),
            empty="every attempt has a price",
        ).wide(8),
    ]


def _limits() -> list[Sized]:
    refused = q.rate(
        "perpetuo_requests_total", q.WORKSPACE, 'reason=~"policy_budget_exceeded|policy_rate_limited"', by="workspace, reason"
    )
    return [
        lines(
            "Stopped by a limit",
            "Requests that ran into a limit or a budget, by what stopped them and whose it is.",
            "reqps",
            Query(q.rate("perpetuo_rate_limited_total", by="limit, subject"), "{{subject}} {{limit}}"),
            stacked=True,
        ).wide(12),
        lines(
            "Stopped by a limit, by app",
            "The same by workspace.",
            "reqps",
            Query(f"{q.top(10, refused)} > 0", "{{workspace}} {{reason}}"),
            stacked=True,
        ).wide(12),
    ]
