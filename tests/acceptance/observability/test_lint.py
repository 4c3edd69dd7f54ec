"""The dashboards and rules as they are written: complete, consistent, and what the generator makes."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from typing import Any

import figures
import generate
import pytest
from prom import promtool

SOURCE = "${datasource}"
# Panels that ask nothing.
SILENT = {"row", "text"}
DASHBOARDS = pytest.mark.parametrize("name", figures.dashboards())
ALERTS = pytest.mark.parametrize("alert", figures.alerts(), ids=figures.name_of)


def panels(name: str) -> list[dict[str, Any]]:
    return list(figures.panels(figures.dashboards()[name]))


def asking(name: str) -> list[dict[str, Any]]:
    return [panel for panel in panels(name) if panel["type"] not in SILENT]


def test_the_dashboards_are_what_the_generator_writes():
    assert not generate.differences(), "run grafana/generate.py"


def test_the_six_dashboards_are_there_and_have_their_own_uid_and_title():
    assert set(figures.dashboards()) == {"overview", "routing", "providers", "cost", "runtime", "runbook"}
    for field in ("uid", "title"):
        assert len({board[field] for board in figures.dashboards().values()}) == len(figures.dashboards())


@DASHBOARDS
def test_every_panel_has_an_id_a_title_and_a_description(name: str):
    ids = Counter(panel["id"] for panel in panels(name))
    assert all(count == 1 for count in ids.values()), ids
    titles = Counter(panel["title"] for panel in panels(name))
    assert all(count == 1 for count in titles.values()), titles
    for panel in panels(name):
        assert panel["title"] and (panel["type"] == "row" or len(panel["description"]) > 5), panel["title"]


@DASHBOARDS
def test_no_panel_lies_over_another_or_beyond_the_edge(name: str):
    places = [(panel["title"], panel["gridPos"]) for panel in panels(name)]
    for title, place in places:
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, f"{one} lies over {other}"


@DASHBOARDS
def test_every_line_of_panels_is_full(name: str):
    lines: Counter[tuple[int, int]] = Counter()
    for panel in panels(name):
        lines[panel["gridPos"]["y"], panel["gridPos"]["h"]] += panel["gridPos"]["w"]
    assert set(lines.values()) == {24}, lines


@DASHBOARDS
def test_every_panel_has_a_unit_and_thresholds_and_asks_the_picked_data_source(name: str):
    for panel in asking(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": SOURCE} for source in sources), panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0, panel["title"]
    for mark in figures.dashboards()[name]["annotations"]["list"]:
        assert mark["datasource"]["uid"] == SOURCE, mark["name"]


@DASHBOARDS
def test_variables_are_there_when_used_and_used_when_there(name: str):
    board = figures.dashboards()[name]
    variables = {variable["name"] for variable in board.get("templating", {}).get("list", [])}
    expressions = [target["expr"] for panel in asking(name) for target in panel["targets"]]
    used = {found for text in expressions for found in figures.VARIABLE.findall(text)} - {"__rate_interval", "__range"}
    assert used | ({"datasource"} if used else set()) == variables


@DASHBOARDS
def test_a_dashboard_leads_to_all_the_others(name: str):
    board = figures.dashboards()[name]
    assert board["tags"] == ["perpetuo"]
    assert [link["tags"] for link in board["links"] if link["type"] == "dashboards"] == [["perpetuo"]]
    known = {f"/d/{other['uid']}" for other in figures.dashboards().values()}
    for address in re.findall(r"/d/[\w-]+", str(board)):
        assert address in known, address


def test_graphs_show_restarts_and_reloads():
    for name in set(figures.dashboards()) - {"runbook"}:
        marks = {mark["name"] for mark in figures.dashboards()[name]["annotations"]["list"]}
        assert marks == {"Restart", "Configuration"}, name


@ALERTS
def test_an_alert_says_what_it_means_and_leads_to_its_section(alert: dict[str, Any]):
    notes = alert["annotations"]
    assert notes["summary"] and notes["description"]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert notes["runbook_url"].endswith(f"docs/runbook.md#{alert['alert'].lower()}")


def test_the_runbook_has_a_section_for_each_alert_and_each_says_what_to_do():
    sections = re.split(r"^## ", figures.RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    titled = {title.strip(): text for title, text in (section.split("\n", 1) for section in sections)}
    names = {alert["alert"] for alert in figures.alerts()}
    assert {title for title in titled if title.startswith("Perpetuo")} == names
    for name in names:
        for part in (r"\*\*Means\.\*\*", r"\*\*Tell( and do)?\.\*\*", r"(\*\*Do\.\*\*|Tell and do)", r"```sh\n"):
            assert re.search(part, titled[name]), f"{name} lacks {part}"


def test_links_of_the_runbook_lead_somewhere():
    text = figures.RUNBOOK.read_text(encoding="utf-8")
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_panels_that_the_runbook_names_exist():
    titles = {panel["title"] for name in figures.dashboards() for panel in panels(name)}
    named = {
        " ".join(found.split())
        for found in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", figures.RUNBOOK.read_text(encoding="utf-8"))
    }
    assert named <= titles


def test_promtool_accepts_the_rules_and_the_configuration():
    for arguments in (("check", "rules", *figures.RULES), ("check", "config", figures.GRAFANA / "prometheus.yml")):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr
