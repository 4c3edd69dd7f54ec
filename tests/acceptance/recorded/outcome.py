"""What came out over the whole corpus: results, exemptions applied to them, and everything that is wrong.

Not here: how it is printed (`table`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .exempt import Exemption, Exemptions
from .recording import Recording
from .result import Result


@dataclass
class Outcome:
    """All results, and what was not asked at all."""

    exemptions: Exemptions
    results: list[Result] = field(default_factory=list)
    exempted: dict[str, Exemption] = field(default_factory=dict)  # by id: the whole exchange
    unspoken: list[Recording] = field(default_factory=list)  # neither judged nor exempted
    failures: list[str] = field(default_factory=list)

    def apply(self, whole_corpus: bool) -> None:
        """Takes out what is exempted, and notes what is exempted without need and what is neither judged nor exempted."""
        entries = self.exemptions.entries
        for result in self.results:
            for entry in entries:
                if entry.aspects and entry.fits(result.recording):
                    excuse(result, entry)
        self.failures += [f"{recording.id}: of no known API and not exempted" for recording in self.unspoken]
        self._idle(whole_corpus)
        self._requests(whole_corpus)
        self.failures += [
            f"{result.recording.id}: {aspect}: {text}"
            for result in self.results
            for aspect, texts in result.differences.items()
            for text in texts
        ]

    def _idle(self, whole_corpus: bool) -> None:
        """Entries that are needed no more, or never were."""
        for entry in self.exemptions.entries:
            needed = len(entry.needed) + sum(other is entry for other in self.exempted.values())
            if whole_corpus and not needed and not entry.idle:
                self.failures.append(f"an exemption matches nothing: {entry.reason}")
            if entry.idle:
                ids = ", ".join(entry.idle[:5])
                self.failures.append(f"an exemption is needed no more for {len(entry.idle)}: {ids}: {entry.reason}")

    def _requests(self, whole_corpus: bool) -> None:
        """Recorded requests that were not compared, or not whole, without a reason in the file."""
        found = {what for result in self.results if result.sent for what in result.sent.lost}
        self.failures += [f"left out of a request without a reason: {what}" for what in found - set(self.exemptions.lost)]
        if whole_corpus:
            self.failures += [f"nothing is lost so: {what}" for what in set(self.exemptions.lost) - found]
        for result in self.results:
            excused = any(result.recording.id in entry.needed for entry in self.exemptions.entries)
            if uncompared(result) and not result.sent.lost and not excused:
                self.failures.append(f"{result.recording.id}: request: neither compared nor exempted")


def excuse(result: Result, exemption: Exemption) -> None:
    """Takes an aspect out of a result: a difference, or a request that could not be compared."""
    for aspect in exemption.aspects:
        if result.differences.pop(aspect, None) or (aspect == "request" and uncompared(result)):
            result.judged.discard(aspect)
            exemption.needed.append(result.recording.id)
        else:
            exemption.idle.append(result.recording.id)


def uncompared(result: Result) -> bool:
    """Whether the recorded request could not be made again."""
    return result.sent is not None and result.sent.expected is None
