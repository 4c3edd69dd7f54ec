"""Each alert fires in the scene that it is made for, and stays quiet in one that only looks like it: promtool plays both."""

from __future__ import annotations

import re

import figures
import pytest
import yaml
from prom import promtool

FILES = sorted(figures.RULE_TESTS.glob("*.yml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_scenes_go_as_they_should(file):
    played = promtool("test", "rules", file)
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.parametrize("outcome", ["fires", "quiet"])
def test_every_alert_has_both_scenes(outcome: str):
    scenes = [scene["name"] for file in FILES for scene in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    played = set()
    for scene in scenes:
        told, alert, rest = re.match(r"(fires|quiet) (\w+)(.*)", scene).groups()
        if told == outcome:
            windows = re.findall(r"\b(1h|6h|1d|3d)\b", rest)
            played |= {f"{alert} {window}" for window in windows} or {alert}
    assert played == {figures.name_of(alert) for alert in figures.alerts()}
