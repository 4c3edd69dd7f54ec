"""What one recording showed: for each aspect whether it was judged, and what differed."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from .recording import Recording
from .wires import Sent


@dataclass
class Result:
    """The aspects are those of `exempt.ASPECTS`."""

    recording: Recording
    sent: Sent | None = None
    judged: set[str] = field(default_factory=set)
    differences: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def compare(self, aspect: str, what: str, got: Any, wanted: Any) -> None:
        """Notes a difference, shortened to where it begins."""
        self.judged.add(aspect)
        if got != wanted:
            self.differences[aspect].append(f"{what}: expected {short(wanted)}, got {short(got)}")

    def fail(self, aspect: str, text: str) -> None:
        """Notes a difference in words."""
        self.judged.add(aspect)
        self.differences[aspect].append(text)


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=vars)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"
