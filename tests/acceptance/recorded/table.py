"""What came out: differences, reasons, the table, and the sum over every recording of the corpus."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from .exempt import ASPECTS, Exemption
from .recording import Recording
from .result import Result


@dataclass
class Outcome:
    """All results, and what was not asked at all."""

    results: list[Result]
    exempted: dict[str, Exemption] = field(default_factory=dict)  # by id: the whole exchange
    unspoken: list[Recording] = field(default_factory=list)  # neither judged nor exempted
    failures: list[str] = field(default_factory=list)

    def apply(self, exemptions: list[Exemption], whole_corpus: bool) -> None:
        """Takes out what is exempted, and notes what is exempted without need and what is neither judged nor exempted."""
        for result in self.results:
            for exemption in exemptions:
                if exemption.aspects and exemption.fits(result.recording):
                    excuse(result, exemption)
        for exemption in exemptions:
            needed = len(exemption.needed) + sum(entry is exemption for entry in self.exempted.values())
            if whole_corpus and not needed and not exemption.idle:
                self.failures.append(f"an exemption matches nothing: {exemption.reason}")
            if exemption.idle:
                ids = ", ".join(exemption.idle[:5])
                self.failures.append(f"an exemption is needed no more for {len(exemption.idle)}: {ids}: {exemption.reason}")
        for result in self.results:
            if uncompared(result) and not any(result.recording.id in exemption.needed for exemption in exemptions):
                self.failures.append(f"{result.recording.id}: request: neither compared nor exempted")
        self.failures += [f"{recording.id}: of no known API and not exempted" for recording in self.unspoken]
        self.failures += [
            f"{result.recording.id}: {aspect}: {text}"
            for result in self.results
            for aspect, texts in result.differences.items()
            for text in texts
        ]


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


def report(outcome: Outcome, exemptions: list[Exemption], seconds: float) -> bool:
    """Prints everything; says whether all is well."""
    for failure in outcome.failures:
        print(f"FAILED {failure}")
    sent = [result.sent for result in outcome.results if result.sent]
    explain("said with the provider's own names, because OpenAI's API has no word for it", [one.native for one in sent])
    explain("requests that could not be compared whole", [one.lost for one in sent])
    reasons(exemptions, outcome)
    table(outcome)
    judged, exempted, unspoken = len(outcome.results), len(outcome.exempted), len(outcome.unspoken)
    print(f"\n{judged + exempted + unspoken} recordings: {judged} judged, {exempted} exempted, {unspoken} unknown; {seconds:.1f} s")
    return not outcome.failures


def explain(title: str, texts: list[list[str]]) -> None:
    """How many recordings had which reason."""
    counts = Counter(text for some in texts for text in set(some))
    if counts:
        print(f"\n{title}:")
    for text, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        print(f"{count:6}  {text}")


def reasons(exemptions: list[Exemption], outcome: Outcome) -> None:
    """How many recordings each exemption took out."""
    whole = Counter(id(entry) for entry in outcome.exempted.values())
    print("\nexempted:")
    for entry in exemptions:
        count = len(set(entry.needed)) or whole[id(entry)]
        print(f"{count:6}  {', '.join(entry.aspects) or 'the exchange'}: {entry.reason}")


def table(outcome: Outcome) -> None:
    """Provider by aspect: how many of the judged passed."""
    passed: dict[str, Counter[str]] = defaultdict(Counter)
    judged: dict[str, Counter[str]] = defaultdict(Counter)
    for result in outcome.results:
        for row in (result.recording.provider, "all"):
            judged[row].update(result.judged | set(result.differences))
            passed[row].update(result.judged - set(result.differences))
    counts = Counter(result.recording.provider for result in outcome.results)
    exempted = Counter(identity.split("-")[0] for identity in outcome.exempted)
    print(f"\n{'provider':12}{'judged':>8}{'exempted':>10}" + "".join(f"{aspect:>12}" for aspect in ASPECTS))
    for row in [*sorted({*counts, *exempted}), "all"]:
        mine, out = (counts[row], exempted[row]) if row != "all" else (counts.total(), exempted.total())
        cells = "".join(f"{cell(passed[row][aspect], judged[row][aspect]):>12}" for aspect in ASPECTS)
        print(f"{row:12}{mine:>8}{out:>10}{cells}")


def cell(passed: int, judged: int) -> str:
    return f"{passed}/{judged}" if judged else "-"
