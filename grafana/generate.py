#!/usr/bin/env python3
"""Writes grafana/dashboards/*.json from grafana/boards.

    python3 -m venv venv && venv/bin/pip install -r grafana/requirements.txt
    venv/bin/python grafana/generate.py            writes them
    venv/bin/python grafana/generate.py --check    says whether they are what would be written

Change a dashboard here, or in Grafana and then here: what is committed is always what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from boards import cost, overview, providers, routing, runbook, runtime  # noqa: E402

DIRECTORY = HERE / "dashboards"
BOARDS = (overview, routing, providers, cost, runtime, runbook)


def rendered() -> dict[str, str]:
    """The text of each file."""
    built = {made.name: made.build() for made in (module.board() for module in BOARDS)}
    return {
        f"{name}.json": json.dumps(board, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n" for name, board in built.items()
    }


def differences() -> list[str]:
    """The files that are not what would be written, or are too many."""
    files = rendered()
    there = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    return sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))


def main() -> int:
    if "--check" in sys.argv[1:]:
        stale = differences()
        for name in stale:
            print(f"grafana/dashboards/{name} is not what grafana/generate.py writes")
        return 1 if stale else 0
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in rendered().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
