"""What the gateway decided, and why: choices, breakers, cool-downs, retries, fallbacks, broken streams."""

from __future__ import annotations

from . import queries as q
from .board import MODEL, PROVIDER, WORKSPACE, Board, Row, to
from .panels import BAD, GOOD, WARN, Column, Query, Sized, from_to, lines, listed, number, rows, states, total

CHOICES = "perpetuo_route_choices_total"
ATTEMPTS = "perpetuo_attempts_total"
PER_SECOND = "cps"
BREAKER = {"closed": "green", "slow_start": "yellow", "half_open": "orange", "open": "red"}


def board() -> Board:
    description = "Where requests go and why, which routes are left alone, and what is tried again."
    rows = [
        Row("Now", _now()),
        Row("Choices", _choices()),
        Row("Routes and keys that are left alone", _out()),
        Row("Tried again", _again()),
        Row("Broken and changed", _broken()),
    ]
    return Board("routing", "Perpetuo / Routing", description, [WORKSPACE, PROVIDER, MODEL], rows)


def _now() -> list[Sized]:
    per_request = q.share(q.rate(ATTEMPTS), q.rate("perpetuo_requests_total", 'strategy!="none", provider!="none"'))
    failing = q.series("perpetuo_routes", q.PROVIDER, 'state=~"open|half_open"')
    cooling = f"count(max by (credential) ({q.series('perpetuo_credential_cool_down_seconds', q.WORKSPACE, q.PROVIDER)}) > 0) or vector(0)"
    refused = f"count(max by (credential) ({q.series('perpetuo_credential_refused', q.WORKSPACE, q.PROVIDER)}) == 1) or vector(0)"
    small = [
        number(
            "Attempts each",
            "1: nothing is tried twice. More: providers fail, and the gateway hides it.",
            "none",
            per_request,
            from_to(1.1, 1.5),
            2,
        ),
        number(
            "Open routes",
            "Routes (a model at a credential) that failed so much that they are left alone, or are being tested.",
            "none",
            f"sum({failing})",
            from_to(1, 5),
            0,
        ),
        number("Cooling keys", "Credentials that are left alone after a 429.", "none", cooling, from_to(1, 5), 0),
        number(
            "Refused keys",
            "Credentials that their provider refused. Someone must change them.",
            "none",
            refused,
            [(None, GOOD), (1, BAD)],
            0,
        ),
        number(
            "Retries left",
            "Retries that are left to the whole process, at most 100; the lowest of the instances. Near zero, errors reach the clients.",
            "none",
            f"min({q.series('perpetuo_retry_budget_level')})",
            [(None, BAD), (10, WARN), (50, GOOD)],
            0,
        ),
        total(
            "Retries refused",
            "Retries in the time shown that the budget did not allow; the client got the error.",
            "none",
            q.count("perpetuo_retry_budget_exhausted_total"),
            from_to(1, 50),
        ),
    ]
    return [panel.wide(4) for panel in small]


def _choices() -> list[Sized]:
    asked = q.rate(ATTEMPTS, q.PROVIDER, q.MODEL, by="provider")
    shares = f"{asked}\n/\nscalar({q.rate(ATTEMPTS, q.PROVIDER, q.MODEL)} > 0) > 0"
    return [
        lines(
            "Choices, by strategy",
            "Candidates that were chosen, by the strategy of the request.",
            "reqps",
            Query(q.rate(CHOICES, by="strategy"), "{{strategy}}"),
            stacked=True,
        ),
        lines(
            "Choices, by reason",
            "Why they were chosen. best, tie, weight, two_choices, sticky: as it should be. explore, probe: looking how a route does. "
            "fallback: the ones before failed. unhealthy, panic: most routes fail. no_price, over_deadline: nothing better was left.",
            "reqps",
            Query(f"{q.rate(CHOICES, by='reason')} > 0", "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Share of providers",
            "Where the attempts go.",
            "percentunit",
            Query(shares, "{{provider}}"),
            stacked=True,
            most=1,
            link=to("providers", "This provider", provider="${__field.labels.provider}"),
        ),
        rows(
            "Reasons, by strategy",
            "Choices in the time shown.",
            {"strategy": "Strategy", "reason": "Reason"},
            Column("Choices", f"{q.count(CHOICES, by='strategy, reason')} > 0", "short"),
        ).wide(8),
        lines(
            "Attempts, by model",
            "Attempts by the model of the catalogue; the ten most. other: names that the catalogue does not have.",
            "reqps",
            Query(q.top(10, q.rate(ATTEMPTS, q.PROVIDER, q.MODEL, by="model")), "{{model}}"),
            stacked=True,
        ).wide(16),
    ]


def _out() -> list[Sized]:
    state = f"max by (workspace, credential, provider, model) ({q.series('perpetuo_route_state', q.WORKSPACE, q.PROVIDER, q.MODEL)}) > 0"
    breakers = f"sum by (state) ({q.series('perpetuo_routes', q.PROVIDER)})"
    cooling = f"max by (workspace, credential, provider) ({q.series('perpetuo_credential_cool_down_seconds', q.WORKSPACE, q.PROVIDER)}) > 0"
    refused = f"max by (workspace, credential, provider, reason) ({q.series('perpetuo_credential_refused', q.WORKSPACE, q.PROVIDER)}) == 1"
    return [
        states(
            "Breakers that are not closed",
            "Each route that failed: open (left alone), recovering (tested, or given a little traffic). One provider, many "
            "workspaces: the provider. One workspace: its key, or its own base_url.",
            Query(state, "{{workspace}} {{provider}} {{model}} {{credential}}"),
            {"1": ("recovering", WARN), "2": ("open", BAD)},
        ),
        lines(
            "Routes, by state of their breaker",
            "All routes that were asked since the start.",
            "none",
            Query(breakers, "{{state}}"),
            stacked=True,
            colors=BREAKER,
        ).wide(6),
        lines(
            "Routes opened",
            "Times that a route failed so much that it was left alone.",
            PER_SECOND,
            Query(f"{q.rate('perpetuo_route_opened_total', q.PROVIDER, by='provider')}", "{{provider}}"),
        ).wide(6),
        lines(
            "Keys that were left alone",
            "429s after which a key was left alone for a while: the provider's limits for this account are too small for the traffic, or "
            "someone else uses the account. And keys that were refused for good.",
            PER_SECOND,
            Query(q.rate("perpetuo_credential_cool_downs_total", q.PROVIDER, by="provider"), "{{provider}} 429"),
            Query(
                q.rate("perpetuo_credential_disabled_total", q.PROVIDER, by="provider, reason"),
                "{{provider}} refused: {{reason}}",
            ),
        ),
        rows(
            "Keys that cool down",
            "Credentials that are left alone after a 429, and for how much longer.",
            {"workspace": "Workspace", "credential": "Credential", "provider": "Provider"},
            Column("For", cooling, "s"),
            empty="none cools down",
        ).wide(8),
        rows(
            "Keys that are out",
            "Credentials that their provider refused. key: wrong or revoked; quota: the account's money or quota is used up.",
            {"workspace": "Workspace", "credential": "Credential", "provider": "Provider", "reason": "Why"},
            listed(refused),
            empty="none is out",
        ).wide(8),
    ]


def _again() -> list[Sized]:
    return [
        lines(
            "Retries, by reason",
            "Attempts that another attempt had to follow, by why they failed.",
            PER_SECOND,
            Query(f"{q.rate('perpetuo_retries_total', by='reason')} > 0", "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Fallbacks, by the provider that was left",
            "Attempts that an attempt with another credential followed.",
            PER_SECOND,
            Query(q.rate("perpetuo_fallbacks_total", q.PROVIDER, by="provider"), "{{provider}}"),
            stacked=True,
        ),
        lines(
            "Retry budget",
            "What is left to each instance, at most 100. Successes fill it, retries empty it: in an outage it runs out, so that the gateway does not "
            "make it worse.",
            "none",
            Query(f"max by (instance) ({q.series('perpetuo_retry_budget_level')})", "{{instance}}"),
            limits=[(None, BAD), (10, WARN), (50, "transparent")],
        ),
        lines(
            "Retries not allowed",
            "Retries that the budget did not allow; the client got the error instead.",
            PER_SECOND,
            Query(q.rate("perpetuo_retry_budget_exhausted_total", by="instance"), "{{instance}}"),
        ),
        lines(
            "Hedges",
            "Second attempts beside a slow first one. Few win: hedging costs more than it brings.",
            PER_SECOND,
            Query(q.rate("perpetuo_hedges_total", by="result"), "{{result}}"),
            stacked=True,
            colors={"won": "green", "lost": "orange"},
        ),
        lines(
            "Attempts for a request",
            "1: nothing is tried twice.",
            "none",
            Query(q.share(q.rate(ATTEMPTS), q.rate("perpetuo_requests_total", 'strategy!="none", provider!="none"')), "attempts"),
        ),
    ]


def _broken() -> list[Sized]:
    return [
        lines(
            "Truncated and odd answers",
            "Truncated: attempts whose answer ended before it was complete; what the client had seen ends in an error, never as if it were whole. The others were served all the same, without a reason for their end, with events that are no JSON or no UTF-8, or with tokens that can't be.",
            PER_SECOND,
            Query(q.rate("perpetuo_stream_truncated_total", q.PROVIDER, by="provider"), "{{provider}}: truncated"),
            Query(q.rate("perpetuo_oddities_total", q.PROVIDER, by="provider, reason"), "{{provider}}: {{reason}}"),
            stacked=True,
        ),
        lines(
            "Clients that left",
            "Requests whose client left before the end. Rising with the time to the first token: their patience is shorter than the provider's answer.",
            PER_SECOND,
            Query(q.rate("perpetuo_client_gone_total", by="instance"), "{{instance}}"),
        ),
        lines(
            "Parameters that were changed",
            "Parameters that a translation had to drop or change, as x-perpetuo-warnings named them.",
            PER_SECOND,
            Query(q.rate("perpetuo_warnings_total", q.PROVIDER, by="provider"), "{{provider}}"),
            stacked=True,
        ),
    ]
