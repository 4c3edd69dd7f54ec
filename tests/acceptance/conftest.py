"""Fixtures: one gateway for the whole run, one tenant with a replayed provider per test module."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

import cells
import expect
from gateway import Gateway, Pair, pair
from staging import Stage, stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without recordings there is nothing to play."""
    if not expect.CORPUS.is_dir():
        print(expect.NO_CORPUS)
        for item in items:
            item.add_marker(pytest.mark.skip(reason=expect.NO_CORPUS))


@pytest.fixture(scope="session")
def gateway():
    """A gateway with its default patience."""
    with Gateway() as running:
        yield running


@pytest.fixture(scope="session")
def impatient():
    """A gateway that waits two seconds for the first token."""
    with Gateway(first_token="2s") as running:
        yield running


@pytest.fixture(scope="module")
def on(gateway: Gateway, request: pytest.FixtureRequest):
    """A tenant whose providers are all one replay."""
    with ExitStack() as resources:
        yield stage(gateway, request.module.__name__, resources)


@pytest.fixture
def failing(impatient: Gateway, request: pytest.FixtureRequest):
    """Builds a tenant whose first provider fails in the named way and whose second answers."""
    with ExitStack() as resources:

        def build(failure: str) -> Pair:
            first, second, recording = cells.FAILOVERS[failure]
            built = pair(impatient, request.node.name, (first, second), resources)
            built.first.play(cells.FAILURES[failure])
            built.second.play(recording)
            return built

        yield build


def received(on: Stage) -> dict:
    """The only request that reached the provider."""
    assert len(on.replay.seen) == 1, f"{len(on.replay.seen)} requests reached the provider"
    return on.replay.seen[0]
