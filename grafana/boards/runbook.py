"""docs/runbook.md as a dashboard, so that whoever was woken finds it where the figures are."""

from __future__ import annotations

from pathlib import Path

from .board import RUNBOOK_UID, Board, Row
from .panels import Sized, words

FILE = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
# Lines of text that fit into one line of the grid, and the letters of a line.
LINES, LETTERS = 1.4, 150


def board() -> Board:
    """A panel for each section of second order."""
    sections = FILE.read_text(encoding="utf-8").split("\n## ")
    head, *rest = sections
    panels = [_panel("How to use it", head.split("\n", 1)[1].strip())]
    panels += [_panel(*section.split("\n", 1)) for section in rest]
    made = Board("runbook", "Perpetuo / Runbook", "What each alert means and what to do; docs/runbook.md as it is.", [], [Row("", panels)], refresh="")
    assert made.uid == RUNBOOK_UID
    return made


def _panel(title: str, markdown: str) -> Sized:
    needed = sum(1 + len(line) // LETTERS for line in markdown.strip().splitlines())
    return words(title, "docs/runbook.md", markdown.strip()).wide(24, max(4, round(needed / LINES)))
