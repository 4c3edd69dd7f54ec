"""Fixtures: one bad night with a Prometheus that watches it, for all tests."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# The gateway as the other acceptance tests start it, and the generator of the dashboards.
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE.parents[2] / "grafana")]

import figures  # noqa: E402
from prom import Prometheus  # noqa: E402
from scenario import Night  # noqa: E402


@dataclass
class Watch:
    """A night, and who watches it."""

    night: Night
    prometheus: Prometheus


@pytest.fixture(scope="session")
def watch(tmp_path_factory: pytest.TempPathFactory):
    """The night under way, with the rules as they are but evaluated each second."""
    directory = tmp_path_factory.mktemp("rules")
    hurried = []
    for path in figures.RULES:
        text = re.sub(r"^    interval: \w+$", "    interval: 1s", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (directory / path.name).write_text(text, encoding="utf-8")
        hurried.append(directory / path.name)
    with Night() as night, Prometheus(night.metrics_port, hurried) as prometheus:
        yield Watch(night, prometheus)
