"""The printed table, provider by aspect, the reasons, and the sum over every recording of the corpus."""

from __future__ import annotations

from collections import Counter, defaultdict

from .exempt import ASPECTS
from .outcome import Outcome


def report(outcome: Outcome, seconds: float) -> bool:
    """Prints everything; says whether all is well."""
    for failure in outcome.failures:
        print(f"FAILED {failure}")
    sent = [result.sent for result in outcome.results if result.sent]
    explain("said with the provider's own names, because OpenAI's API has no word for it", [one.native for one in sent])
    why = outcome.exemptions.lost
    explain("left out of requests", [[f"{what}: {why.get(what)}" for what in one.lost] for one in sent])
    reasons(outcome)
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


def reasons(outcome: Outcome) -> None:
    """How many recordings each exemption took out."""
    whole = Counter(id(entry) for entry in outcome.exempted.values())
    print("\nexempted:")
    for entry in outcome.exemptions.entries:
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
