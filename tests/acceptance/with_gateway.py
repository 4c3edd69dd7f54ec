"""Runs a command with a gateway and replayed providers beside it, for clients that are not written in Python.

    with_gateway.py COMMAND ...

`$PERPETUO_STAGE` names a JSON file: for each test file a tenant (`base_url`, `key`, `replay`), tenants for failovers, and the
recordings of the matrix with what the client sends and what it must get. Ends with the command's exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import cells
import expect
from gateway import Gateway, Workspace, pair
from recorded.failures import about_the_key
from staging import Stage, stage

CLIENTS = ("openai", "ai-openai", "ai-compatible")


def address(workspace: Workspace) -> dict[str, str]:
    return {"base_url": workspace.base_url, "key": workspace.key}


def cell(identity: str) -> dict[str, Any]:
    """One recording as the Node tests need it."""
    recording = expect.load(identity)
    facts = expect.reading(identity).facts()
    refused = about_the_key(expect.reading(identity))
    asked = cells.request(identity)
    provider = asked["model"].split("/", 1)[0]
    return {"id": identity, "provider": provider, "request": asked, "expected": facts, "about_the_key": refused}


def failovers(impatient: Gateway, client: str, resources: ExitStack) -> list[dict[str, Any]]:
    """A tenant for each failure, its replays already loaded."""
    built = []
    for failure, (first, second, identity) in cells.FAILOVERS.items():
        ready = pair(impatient, f"{client} {failure}", (first, second), resources)
        ready.first.play(cells.FAILURES[failure])
        ready.second.play(identity)
        built.append({"failure": failure, "second": second, **address(ready.workspace), **cell(identity)})
    return built


def keys(ready: Stage, identities: list[str]) -> dict[str, list[str]]:
    """The keys that can ask for each recording: one, or, for a refusal, one for a whole answer and one for a stream."""
    return {
        identity: [ready.tenant(identity).key for _ in range(1 if expect.load(identity).status == 200 else 2)]
        for identity in identities
    }


def stages(gateway: Gateway, impatient: Gateway, resources: ExitStack) -> dict[str, Any]:
    features = list(dict.fromkeys(feature for provider in cells.TABLE.values() for feature in provider))
    table = {feature: [cell(identity) for identity in cells.ids(feature)] for feature in features}
    clients = {}
    for client in CLIENTS:
        ready = stage(gateway, client, resources)
        others = failovers(impatient, client, resources)
        theirs = keys(ready, [entry["id"] for entries in table.values() for entry in entries])
        clients[client] = {**address(ready.workspace), "keys": theirs, "replay": ready.replay.root, "failovers": others}
    return {"clients": clients, "cells": table, "image": cells.IMAGE, "png": cells.PNG}


def main() -> int:
    if not expect.CORPUS.is_dir():
        print(expect.NO_CORPUS)
        return 0
    with ExitStack() as resources:
        gateway = resources.enter_context(Gateway())
        impatient = resources.enter_context(Gateway(first_token="2s"))
        path = gateway.directory / "stage.json"
        path.write_text(json.dumps(stages(gateway, impatient, resources)), encoding="utf-8")
        return subprocess.run(sys.argv[1:], env={**os.environ, "PERPETUO_STAGE": str(path)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
