"""What is printed: Markdown for people, JSON for machines. Medians, with the smallest and the largest of the rounds behind them."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from rows import ROWS


def spread(values: list[float], digits: int = 0) -> str:
    """`61 (58–66)`."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratio(value: float, bound: float | None) -> str:
    text = f"**{value:.2f} ×**"
    return text if bound is None else f"{text} of ≤ {bound:.2f}{'' if value <= bound else ' — over'}"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = {name: next((line.split(":")[1].strip() for line in lines if line.startswith(name)), "?") for name in ("model name", "model\t", "stepping")}
    return f"{' '.join(said.values())}, {' '.join(platform.libc_ver())}"


def machine() -> str:
    load = os.getloadavg()[0]
    return f"{datetime.date.today()}, {os.cpu_count()} cores of {processor()}, Linux {platform.release()}, load {load:.1f} at the end"


def of_instructions(counts: dict[str, dict[str, float]]) -> str:
    lines = []
    for row in (row for row in ROWS if row.name in counts):
        ours, bare = counts[row.name]["Perpetuo"], counts[row.name]["bare Pingora"]
        lines.append([row.title, f"{bare:,.0f}", f"{ours:,.0f}", ratio(ours / bare, row.bounds[0])])
    return "Instructions for a request (callgrind, user space)\n\n" + table(["work", "bare Pingora", "Perpetuo", "ratio"], lines)


def of_times(times: dict[str, dict[str, list[float]]], names: list[str]) -> str:
    lines = []
    for row in (row for row in ROWS if row.name in times):
        took = times[row.name]
        cells = [spread(took[name]) if name in took else "–" for name in names]
        pairs = [ours / bare for ours, bare in zip(took["Perpetuo"], took["bare Pingora"])]
        lines.append([row.title, *cells, ratio(statistics.median(pairs), row.bounds[1])])
    head = ["work", *names, "Perpetuo / bare, median of the rounds"]
    return "CPU time for a request in µs, user and kernel: median (least–most)\n\n" + table(head, lines)


def of_latency(found: dict[str, list[list[int]]], rate: float) -> str:
    lines = []
    for name, rounds in found.items():
        p50, p99 = ([float(one[place]) for one in rounds] for place in (0, 1))
        bare = found["bare Pingora"]
        added = [statistics.median(ours[place] - theirs[place] for ours, theirs in zip(rounds, bare)) for place in (0, 1)]
        lines.append([name, spread(p50), spread(p99), f"{added[0]:.0f}", f"{added[1]:.0f}"])
    head = ["proxy", "p50 µs", "p99 µs", "p50 over bare (≤ 60)", "p99 over bare (≤ 300)"]
    return f"Latency at {rate:.0f} requests a second, 1 KB, JSON\n\n" + table(head, lines)


def of_streams(found: dict[str, dict[str, Any]], streams: int) -> str:
    lines = []
    for name, one in found.items():
        each = (one["peak"] - one["before"]) / streams / 1024
        first = [value / 1000 for value in one["first"][:2]]
        lines.append([name, str(one["complete"]), f"{each:.1f}", *(f"{value:.2f}" for value in first)])
    head = ["proxy", "complete", "KB for a stream (≤ 25)", "first byte p50 ms", "first byte p99 ms (≤ 2 × nginx)"]
    return f"{streams:,} streams at once, 20 events a second apart\n\n" + table(head, lines)


def of_lines(title: str, lines: list[tuple[str, str]]) -> str:
    return f"{title}\n\n" + table(["what", "figure"], [list(line) for line in lines])
