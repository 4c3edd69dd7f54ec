"""Everything that is drawn, recorded or alerted on is asked of a real Prometheus that watches a real gateway in a bad night."""

from __future__ import annotations

import math
import re
import time

import figures
from conftest import Watch
from figures import Expression
from prom import promtool

# The night must have gone on for long enough that every figure has moved.
PATIENCE = 60
# What Grafana would put in. Several scrapes fit into the first.
VARIABLES = {
    "__rate_interval": "10s", "__range": "60s", "job": "perpetuo", "instance": ".+", "workspace": ".*", "provider": ".*", "model": ".*",
}  # fmt: skip
# The alerts whose condition this night has; the others are about the gateway itself, which must be well in it.
MET = {
    "PerpetuoUserErrors 1h", "PerpetuoUserErrors 6h", "PerpetuoUserErrors 1d", "PerpetuoUserErrors 3d", "PerpetuoConfigReloadFailed",
    "PerpetuoModelWithoutRoute", "PerpetuoProviderFailing", "PerpetuoCredentialRefused", "PerpetuoUnpricedRequests",
}  # fmt: skip
# What depends on how fast this machine is.
EITHER = {"PerpetuoRetryBudgetSpent", "PerpetuoSpendSurge", "PerpetuoSlowItself", "PerpetuoWorkersBusy"}


def substituted(expression: str) -> str:
    """The expression with every variable replaced, as Grafana does it."""
    return figures.VARIABLE.sub(lambda found: VARIABLES[found[1]], expression)


def wrong(watch: Watch, expression: Expression) -> str | None:
    """What is wrong with the values of an expression now."""
    values = watch.prometheus.values(substituted(expression.text))
    bad = [labels for labels, value in values if not math.isfinite(value)]
    if bad:
        return f"not finite for {bad}"
    return None if values else "no data"


def settle(watch: Watch, expressions: list[Expression]) -> list[str]:
    """Waits until every expression has finite values, and says which never had."""
    deadline = time.monotonic() + PATIENCE
    waiting = {expression: "" for expression in expressions}
    while waiting and time.monotonic() < deadline:
        found = {expression: wrong(watch, expression) for expression in waiting}
        waiting = {expression: trouble for expression, trouble in found.items() if trouble}
        # The next scrape is a second away.
        time.sleep(0.5 if waiting else 0)
    return [f"{trouble}: {expression}" for expression, trouble in waiting.items()]


def test_every_panel_shows_finite_figures(watch: Watch):
    never = settle(watch, figures.shown())
    assert not never, "\n".join(never)


def test_every_annotation_and_recording_has_values(watch: Watch):
    never = settle(watch, [*figures.annotated(), *figures.recorded()])
    assert not never, "\n".join(never)


def test_the_alerts_of_such_a_night_are_due_and_no_others(watch: Watch):
    due = [expression for expression in figures.alerting() if expression.where in MET]
    assert len(due) == len(MET), "an alert was renamed"
    never = settle(watch, due)
    assert not never, "\n".join(never)
    for alert in watch.prometheus.ask("alerts")["alerts"]:
        said = " ".join(alert["annotations"].values())
        assert "no value" not in said and "error expanding" not in said, said
    quiet = [expression for expression in figures.alerting() if expression.where not in MET | EITHER]
    false = [f"{expression}: {found}" for expression in quiet if (found := watch.prometheus.values(expression.text))]
    assert not false, "\n".join(false)


def test_everything_that_an_alert_looks_at_exists(watch: Watch):
    missing = [
        f"{expression.where}: {selector}"
        for expression in figures.alerting()
        for selector in sorted(expression.selectors())
        if not watch.prometheus.has(selector)
    ]
    assert not missing, "\n".join(missing)


def exported(page: str) -> set[str]:
    """The names of the metrics of a page."""
    return set(re.findall(r"^# TYPE (\S+) ", page, flags=re.MULTILINE))


def test_the_page_follows_the_customs_of_prometheus(watch: Watch):
    checked = promtool("check", "metrics", input=watch.night.exposition())
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_documentation_has_every_metric_and_no_other(watch: Watch):
    named = re.findall(
        r"^\| `((?:perpetuo|gen_ai|process)_\w+)` \| (?:counter|gauge|histogram) \|",
        figures.DOCUMENTED.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert len(named) == len(set(named)), "a metric is documented twice"
    assert set(named) == exported(watch.night.exposition())


def test_every_metric_is_looked_at(watch: Watch):
    looked_at = set().union(
        *(expression.metrics() for expression in (*figures.shown(), *figures.alerting(), *figures.recorded()))
    )
    families = exported(watch.night.exposition())
    of_family = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in families else name for name in looked_at}
    own = {name for name in of_family if ":" not in name} - {"up", "ALERTS"}
    assert own <= families, f"not exported: {sorted(own - families)}"
    assert families <= own, f"on no dashboard and in no alert: {sorted(families - own)}"


def test_the_traffic_went_on(watch: Watch):
    """Last: were a client stuck or the gateway gone, the figures above would say little."""
    assert not watch.night.trouble, watch.night.trouble
    assert watch.night.done > 0
