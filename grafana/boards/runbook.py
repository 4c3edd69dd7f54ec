"""docs/runbook.md as a dashboard, so that whoever was woken finds it where the figures are."""

from __future__ import annotations

import re
from pathlib import Path

from .board import RUNBOOK_UID, Board, Row
from .panels import Sized, words

FILE = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
# Lines of text that fit into one line of the grid, and the letters of a line.
LINES, LETTERS = 1.4, 150


def board() -> Board:
    """A panel for each section of second order."""
    head, *rest = FILE.read_text(encoding="utf-8").split("\n## ")
    sections = [("How to use it", head.split("\n", 1)[1]), *(tuple(section.split("\n", 1)) for section in rest)]
    # A panel's id is its place.
    places = {title.lower().replace(" ", "-"): at for at, (title, _) in enumerate(sections, 1)}
    panels = [_panel(title, _linked(text, places)) for title, text in sections]
    made = Board(
        "runbook",
        "Perpetuo / Runbook",
        "What each alert means and what to do; docs/runbook.md as it is.",
        None,
        [Row("", panels)],
        refresh="",
    )
    assert made.uid == RUNBOOK_UID
    return made


def _linked(markdown: str, places: dict[str, int]) -> str:
    """With links to sections as links to panels, and without those to other files."""
    inner = re.sub(r"\]\(#([\w-]+)\)", lambda found: f"](/d/{RUNBOOK_UID}?viewPanel={places[found[1]]})", markdown)
    return re.sub(r"\[([^\]]+)\]\([\w.-]+\.md\)", r"docs/\1", inner)


def _panel(title: str, markdown: str) -> Sized:
    needed = sum(1 + len(line) // LETTERS for line in markdown.strip().splitlines())
    return words(title, "docs/runbook.md", markdown.strip()).wide(24, max(4, round(needed / LINES)))
