"""The first dashboard to open: is it us, a provider, a key, or an app, and what does it cost."""

from __future__ import annotations

from . import queries as q
from .board import PROVIDER, WORKSPACE, Board, Row, to
from .panels import BAD, GOOD, NEUTRAL, SUCCESS, WARN, Column, Query, Sized, from_to, lines, listed, number, rows, total

SERVED = 'fault!~"client|policy"'
SEEN = 'fault=~"gateway|provider"'
OURS = 'fault="gateway"'
REQUESTS = "perpetuo_requests_total"
# Whose fault, always in the same colours.
FAULTS = {"gateway": "red", "provider": "orange", "policy": "purple", "client": "blue"}
# What each service level allows to fail.
GATEWAY_BUDGET, USER_BUDGET = 0.0005, 0.005
BURN = from_to(1, 6)
BURN_LIMITS = [(None, "transparent"), (1, WARN), (6, BAD), (14.4, "dark-red")]


def board() -> Board:
    description = "Is it us, a provider, a key, or an app, and what does it cost? Read it from the top; each row narrows it down."
    rows = [
        Row("Now", _now()),
        Row("Whose fault is it", _fault()),
        Row("Which provider, key, app", _who()),
        Row("Error budgets", _budgets()),
        Row("Speed", _speed()),
        Row("Money", _money()),
    ]
    return Board("overview", "Perpetuo / Overview", description, [WORKSPACE, PROVIDER], rows)


def _failed(fault: str) -> str:
    return q.share(q.rate(REQUESTS, fault, q.WORKSPACE), q.rate(REQUESTS, SERVED, q.WORKSPACE))


def _burn(slo: str, window: str, budget: float) -> str:
    return f'max(perpetuo:error_ratio:rate{window}{{job=~"$job", slo="{slo}"}}) / {budget}'


def _now() -> list[Sized]:
    first_token = q.quantile(0.95, "gen_ai_server_time_to_first_token_seconds", q.GEN_AI_PROVIDER)
    small = [
        number(
            "Alerts firing",
            "Alerts of grafana/rules that fire now. Zero is good. The list is below; each has its section in the runbook.",
            "none",
            'count(ALERTS{alertname=~"Perpetuo.+", alertstate="firing"}) or vector(0)',
            from_to(1, 3),
            link=to("runbook", "Runbook"),
        ),
        number(
            "Users served",
            "Share of requests that got a whole answer, of those that were not refused because of the client or a limit. "
            "Below 99.5 % the users' service level is being spent.",
            "percentunit",
            f"1 - {_failed(SEEN)}",
            SUCCESS,
            2,
        ),
        number(
            "We served",
            "The same, counting only what the gateway itself failed. If this is green and the one before is not, it is a provider. "
            "Below 99.95 % the gateway's service level is being spent.",
            "percentunit",
            f"1 - {_failed(OURS)}",
            [(None, BAD), (0.999, WARN), (0.9995, GOOD)],
            3,
        ),
        number(
            "First token, p95",
            "From a request's head to the first content of its stream: 95 % are faster. Mostly the providers' time; "
            "the gateway's own is to the right.",
            "s",
            first_token,
            from_to(3, 10),
            2,
            link=to("providers", "Providers"),
        ),
        number(
            "Our own time, p99",
            "What the gateway took beyond the time its attempts were under way: 99 % are faster. High: too little CPU, "
            'a slow disk with durability "sync", or clients that send slowly.',
            "s",
            q.quantile(0.99, "perpetuo_overhead_seconds"),
            from_to(0.05, 0.25),
            1,
            link=to("runtime", "Runtime"),
        ),
        number(
            "Spend an hour",
            "Dollars an hour at the pace of now, all attempts included, as they are in the ledger.",
            "currencyUSD",
            q.per_hour("perpetuo_cost_usd_total", q.WORKSPACE, q.PROVIDER),
            NEUTRAL,
            2,
            "0",
            to("cost", "Tokens and cost"),
        ),
        number(
            "Requests",
            "Requests a second on the chat and embeddings routes, refused ones included.",
            "reqps",
            q.rate(REQUESTS, q.WORKSPACE, q.PROVIDER),
            NEUTRAL,
        ),
        number(
            "In flight",
            "Requests being served now. Rising without more requests: providers are slow.",
            "none",
            f"sum({q.series('perpetuo_inflight_requests')})",
            NEUTRAL,
            0,
            link=to("runtime", "Runtime"),
        ),
    ]
    return [panel.wide(3) for panel in small]


def _fault() -> list[Sized]:
    failing = q.rate(REQUESTS, 'fault!="none"', q.WORKSPACE, q.PROVIDER, by="fault")
    reasons = q.count(REQUESTS, 'fault!="none"', q.WORKSPACE, q.PROVIDER, by="fault, reason, provider, workspace")
    firing = 'max by (alertname, severity, job, instance, workspace, provider, model) (ALERTS{alertname=~"Perpetuo.+", alertstate=~"firing|pending"})'
    return [
        lines(
            "Failed requests, by whose fault",
            "Requests that failed, each with the one who has to act. gateway: you. provider: the provider, or whoever "
            "holds the account there. policy: nobody, a limit was applied. client: the app.",
            "reqps",
            Query(failing, "{{fault}}"),
            stacked=True,
            colors=FAULTS,
        ),
        rows(
            "What fails",
            "The failed requests of the time shown, most frequent first. One provider in many rows: it is that provider. One workspace: "
            "its key, its limits or its app. fault gateway: start with the runbook.",
            {"fault": "Fault", "reason": "Reason", "provider": "Provider", "workspace": "Workspace"},
            Column("Requests", f"{q.top(25, reasons)} > 0", "short"),
            link=("workspace", to("cost", "What it uses", workspace="${__value.text}")),
        ).wide(9),
        rows(
            "Alerts",
            "Alerts of grafana/rules that fire, or will if it lasts. Each has a section in the runbook.",
            {
                "alertname": "Alert",
                "severity": "Severity",
                "instance": "Instance",
                "workspace": "Workspace",
                "provider": "Provider",
                "model": "Model",
            },
            listed(firing),
            link=("alertname", to("runbook", "Runbook")),
        ).wide(7),
    ]


def _who() -> list[Sized]:
    attempts = "perpetuo_attempts_total"
    failing = q.share(
        q.rate(attempts, 'outcome=~"provider_.+"', q.PROVIDER, by="provider"), q.rate(attempts, q.PROVIDER, by="provider")
    )
    refused = f"max by (workspace, credential, provider, reason) ({q.series('perpetuo_credential_refused', q.WORKSPACE, q.PROVIDER)}) == 1"
    cooling = f"max by (workspace, credential, provider) ({q.series('perpetuo_credential_cool_down_seconds', q.WORKSPACE, q.PROVIDER)}) > 0"
    dead = f"min by (workspace, model) ({q.series('perpetuo_route_state', q.WORKSPACE)}) == 2"
    gone = q.rate(REQUESTS, 'fault="client"', q.WORKSPACE, by="workspace, reason")
    return [
        lines(
            "Attempts that fail, by provider",
            "Share of attempts that failed through the provider: 429, 5xx, timeouts, broken streams. One line up: that "
            "provider. All up: your network, or a key that all use.",
            "percentunit",
            Query(failing, "{{provider}}"),
            most=1,
            limits=from_to(0.05, 0.25),
            link=to("providers", "This provider", provider="${__field.labels.provider}"),
        ).wide(7),
        rows(
            "Keys that are out",
            "Provider credentials that the provider refused. They are not used until they are changed. key: wrong or revoked; "
            "quota: the account's money or quota is used up.",
            {"workspace": "Workspace", "credential": "Credential", "provider": "Provider", "reason": "Why"},
            listed(refused),
            empty="none is out",
        ).wide(6),
        rows(
            "Keys that cool down",
            "Provider credentials that are left alone after a 429, and for how much longer.",
            {"workspace": "Workspace", "credential": "Credential", "provider": "Provider"},
            Column("For", cooling, "s"),
            empty="none cools down",
        ).wide(5),
        rows(
            "Models that nobody serves",
            "Models of a workspace for which every route is open: all its credentials fail, and are left alone for a while.",
            {"workspace": "Workspace", "model": "Model"},
            listed(dead),
            empty="every model has a route",
        ).wide(6),
        lines(
            "Refused because of the client, by app",
            "What clients did wrong, by workspace: bad keys (workspace none), unknown models, bad requests. "
            "A step up after a release of an app is that app.",
            "reqps",
            Query(q.top(10, gone), "{{workspace}} {{reason}}"),
        ).wide(8),
        lines(
            "Refused by a limit, by app",
            "Requests that a rate limit or a budget of their key or workspace stopped.",
            "reqps",
            Query(q.top(10, q.rate(REQUESTS, 'fault="policy"', q.WORKSPACE, by="workspace, reason")), "{{workspace}} {{reason}}"),
        ).wide(8),
        lines(
            "Requests, by app",
            "Requests by workspace. A jump here explains a jump in spend.",
            "reqps",
            Query(q.top(10, q.rate(REQUESTS, q.WORKSPACE, by="workspace")), "{{workspace}}"),
            stacked=True,
        ).wide(8),
    ]


def _budgets() -> list[Sized]:
    windows = {"1h": "1 hour", "6h": "6 hours", "1d": "1 day", "3d": "3 days"}
    meaning = "1: the budget of 30 days lasts 30 days. 14.4: it is gone in 2 days; pages. 6: in 5 days; pages."

    def burning(slo: str, budget: float) -> list[Query]:
        return [Query(_burn(slo, window, budget), words) for window, words in windows.items()]

    def left(slo: str, budget: float) -> str:
        errors = f'sum(sum_over_time(perpetuo:errors:rate5m{{job=~"$job", slo="{slo}"}}[30d]))'
        requests = '(sum(sum_over_time(perpetuo:requests:rate5m{job=~"$job"}[30d])) > 0)'
        return f"1 - {errors}\n/\n{requests} / {budget}"

    spent = [(None, BAD), (0, WARN), (0.25, GOOD)]
    return [
        lines(
            "How fast we spend the gateway's budget (99.95 %)",
            f"What the gateway itself fails, as a multiple of what its service level allows. {meaning}",
            "none",
            *burning("gateway", GATEWAY_BUDGET),
            limits=BURN_LIMITS,
        ).wide(9),
        lines(
            "How fast the users' budget is spent (99.5 %)",
            f"What users saw fail, by the gateway or by providers, as a multiple of what their service level allows. {meaning}",
            "none",
            *burning("user", USER_BUDGET),
            limits=BURN_LIMITS,
        ).wide(9),
        total(
            "Gateway's budget left",
            "Of what may fail in 30 days (0.05 %), what is left. Needs the recording rules, and as many days of Prometheus's memory.",
            "percentunit",
            left("gateway", GATEWAY_BUDGET),
            spent,
        ).wide(3, 8),
        total(
            "Users' budget left",
            "Of what may fail in 30 days (0.5 %), what is left. Needs the recording rules, and as many days of Prometheus's memory.",
            "percentunit",
            left("user", USER_BUDGET),
            spent,
        ).wide(3, 8),
    ]


def _quantiles(histogram: str, *where: str) -> list[Query]:
    return [Query(q.quantile(which, histogram, *where), f"p{which * 100:g}") for which in (0.5, 0.95, 0.99)]


def _speed() -> list[Sized]:
    return [
        lines(
            "Time to first token",
            "From a request's head to the first content of its stream, failed attempts included.",
            "s",
            *_quantiles("gen_ai_server_time_to_first_token_seconds", q.GEN_AI_PROVIDER),
            link=to("providers", "Providers"),
        ),
        lines(
            "Time of a request",
            "From a request's head to the end of its answer, all attempts included.",
            "s",
            *_quantiles("gen_ai_server_request_duration_seconds", q.GEN_AI_PROVIDER),
            link=to("providers", "Providers"),
        ),
        lines(
            "Our own time",
            "What the gateway took of a request beyond the time its attempts were under way: authentication, reading the body, routing, booking.",
            "s",
            *_quantiles("perpetuo_overhead_seconds"),
            limits=[(None, "transparent"), (0.05, WARN), (0.25, BAD)],
            link=to("runtime", "Runtime"),
        ),
    ]


def _money() -> list[Sized]:
    cost = "perpetuo_cost_usd_total"
    return [
        lines(
            "Spend an hour, by app",
            "Dollars an hour at the pace of now, by workspace; the ten largest.",
            "currencyUSD",
            Query(q.top(10, q.per_hour(cost, q.WORKSPACE, q.PROVIDER, by="workspace")), "{{workspace}}"),
            stacked=True,
            link=to("cost", "This workspace", workspace="${__field.labels.workspace}"),
        ).wide(9),
        lines(
            "Spend an hour, by provider",
            "Dollars an hour at the pace of now, by provider.",
            "currencyUSD",
            Query(f"{q.per_hour(cost, q.WORKSPACE, q.PROVIDER, by='provider')} > 0", "{{provider}}"),
            stacked=True,
        ).wide(9),
        total(
            "Spent in the time shown",
            "Dollars of all attempts in the time that the dashboard shows.",
            "currencyUSD",
            q.count(cost, q.WORKSPACE, q.PROVIDER),
            NEUTRAL,
        ).wide(3, 8),
        total(
            "Without a price",
            "Attempts in the time shown whose price is not known: the bill is short by them. See the tokens and cost dashboard.",
            "none",
            f"{q.count('perpetuo_unpriced_total', q.WORKSPACE, q.PROVIDER)} or vector(0)",
            from_to(0.5, 100),
        ).wide(3, 8),
    ]
