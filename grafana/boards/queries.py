"""PromQL that several panels share: which gateways, rates, quantiles, shares.

Not here: what is drawn of it (`panels`). Invariants: everything is of the gateways that are picked above the dashboard; a share or a
quantile of nothing has no value, instead of one that is not a number.
"""

from __future__ import annotations

# The gateways that are picked.
PICKED = 'job=~"$job", instance=~"$instance"'
WORKSPACE = 'workspace=~"$workspace"'
PROVIDER = 'provider=~"$provider"'
MODEL = 'model=~"$model"'
# What OpenTelemetry calls the last two.
GEN_AI_PROVIDER = 'gen_ai_provider_name=~"$provider"'
GEN_AI_MODEL = 'gen_ai_request_model=~"$model"'


def series(metric: str, *where: str) -> str:
    """The picked series of a metric, with more matchers."""
    return f"{metric}{{{', '.join((PICKED, *where))}}}"


def _sum(function: str, window: str, metric: str, where: tuple[str, ...], by: str) -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} ({function}({series(metric, *where)}[{window}]))"


def rate(metric: str, *where: str, by: str = "") -> str:
    """A second, now."""
    return _sum("rate", "$__rate_interval", metric, where, by)


def per_hour(metric: str, *where: str, by: str = "") -> str:
    """An hour, at the pace of now."""
    return f"{rate(metric, *where, by=by)} * 3600"


def count(metric: str, *where: str, by: str = "") -> str:
    """In the whole time that the dashboard shows."""
    return _sum("increase", "$__range", metric, where, by)


def share(part: str, whole: str) -> str:
    """A part of a whole: nothing where there is no whole, and 0 where no series has the part."""
    return f"({part} or {whole} * 0)\n/\n({whole} > 0)"


def quantile(which: float, histogram: str, *where: str, by: str = "", window: str = "$__rate_interval") -> str:
    """A quantile of a histogram, grouped; nothing where nothing was observed."""
    grouping = f"le, {by}" if by else "le"
    buckets = f"sum by ({grouping}) (rate({series(f'{histogram}_bucket', *where)}[{window}]))"
    return f"histogram_quantile({which}, {buckets}) >= 0"


def top(number: int, expression: str) -> str:
    """The largest, where there may be many."""
    return f"topk({number}, {expression})"
