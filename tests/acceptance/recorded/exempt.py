"""What is not judged, and why: `exemptions.toml`, read strictly.

An entry that matches nothing, or that exempts what would pass, is a failure, so that the file can only tell the truth. Parts
of requests that are left out of a comparison (`Sent.lost`) must stand in it, too.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .recording import Recording

FILE = Path(__file__).resolve().parent / "exemptions.toml"
# What the table judges. An entry without an aspect exempts the whole exchange, which is only for APIs that are not spoken.
ASPECTS = ("text", "tools", "finish", "usage", "cost", "error", "shape", "request")
SELECTORS = ("ids", "provider", "endpoints", "request")


@dataclass
class Exemption:
    """One entry. All its selectors must fit."""

    reason: str
    aspects: tuple[str, ...]
    select: dict[str, Any]
    # The parameter that the gateway itself must name in a refusal.
    refused: str | None = None
    # The recordings that it was needed for, and those that would have passed without it.
    needed: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def fits(self, recording: Recording) -> bool:
        """Whether it speaks of this recording."""
        tests = {
            "ids": lambda wanted: recording.id in wanted,
            "provider": lambda wanted: recording.provider == wanted,
            "endpoints": lambda wanted: recording.endpoint in wanted,
            "request": lambda wanted: (recording.request is not None) == wanted,
        }
        return all(tests[name](wanted) for name, wanted in self.select.items())


@dataclass
class Exemptions:
    """The whole file: entries, and why parts of requests can't be compared, by what `Sent.lost` says of them."""

    entries: list[Exemption]
    lost: dict[str, str]


def load() -> Exemptions:
    """The file, its entries checked for what they must have."""
    whole = tomllib.loads(FILE.read_text(encoding="utf-8"))
    entries = []
    for raw in whole["exempt"]:
        reason, aspects, refused = raw.pop("reason"), tuple(raw.pop("aspects", ())), raw.pop("refused", None)
        unknown = (set(aspects) - set(ASPECTS)) | (set(raw) - set(SELECTORS))
        if unknown or not reason or not raw:
            raise ValueError(f"an exemption with unknown or missing parts: {reason!r} {sorted(unknown)}")
        entries.append(Exemption(reason, aspects, raw, refused))
    return Exemptions(entries, {entry["what"]: entry["reason"] for entry in whole["lost"]})
