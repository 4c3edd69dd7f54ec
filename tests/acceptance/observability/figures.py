"""What the dashboards and rules say: their expressions, and the metrics these name.

Not here: whether it is right (`test_*`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
GRAFANA = ROOT / "grafana"
RULES = sorted((GRAFANA / "rules").glob("*.yml"))
RULE_TESTS = Path(__file__).with_name("rules")
RUNBOOK = ROOT / "docs" / "runbook.md"
DOCUMENTED = ROOT / "docs" / "metrics.md"

# A metric of ours, or of Prometheus about us, with its matchers; a name in quotes is a label.
SELECTOR = re.compile(r'(?<![\w:$"])((?:perpetuo|gen_ai|process)[\w:]+|up|ALERTS)\b(?!\s*[=!(])(\{[^}]*\})?')
VARIABLE = re.compile(r"\$\{?([a-zA-Z_]\w*)")


@dataclass(frozen=True)
class Expression:
    """One expression, and where it stands."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"

    def selectors(self) -> set[str]:
        """Every metric that is named, with its matchers."""
        return {"".join(found) for found in SELECTOR.findall(without_groupings(self.text))}

    def metrics(self) -> set[str]:
        """Every metric that is named."""
        return {name for name, _ in SELECTOR.findall(without_groupings(self.text))}


def without_groupings(expression: str) -> str:
    """Without what is between the parentheses of `by (…)` and its like: those are labels."""
    return re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", expression)


@cache
def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard, by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those inside folded rows included."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def shown() -> list[Expression]:
    """What the panels show."""
    return [
        Expression(f"{name} / {panel['title']}", target["expr"])
        for name, dashboard in dashboards().items()
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]


def annotated() -> list[Expression]:
    """What is marked on the graphs."""
    return [
        Expression(f"{name} / annotation {mark['name']}", mark["expr"])
        for name, dashboard in dashboards().items()
        for mark in dashboard["annotations"]["list"]
    ]


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> list[Expression]:
    """What is recorded."""
    return [Expression(rule["record"], rule["expr"]) for rule in rules() if "record" in rule]


def alerting() -> list[Expression]:
    """What alerts."""
    return [Expression(name_of(rule), rule["expr"]) for rule in alerts()]


def name_of(alert: dict[str, Any]) -> str:
    """An alert's name, and its window where there are several."""
    window = alert["labels"].get("window")
    return f"{alert['alert']} {window}" if window else alert["alert"]
