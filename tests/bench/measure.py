"""How figures are taken: jobs for the rig, CPU time, instructions, memory.

A run with an answer that is no complete 200 raises `Unsound`: a figure over errors is none. Not here: what is run when (`run`).
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from gateways import ROOT, Bare, Perpetuo, Proxy, pinned
from rows import Row, body


class Unsound(RuntimeError):
    """A run that measured something else than answers."""


class Rig:
    """The provider and the clients."""

    def __init__(self, cpus: set[int] | None = None):
        self.process = subprocess.Popen(
            [str(ROOT / "target" / "release" / "rig")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=pinned(cpus, room=True),
        )  # fmt: skip
        self.provider = self.process.stdout.readline().strip()

    def job(self, **job: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        report = json.loads(self.process.stdout.readline())
        if report["failed"]:
            raise Unsound(f"{job['address']}: {report['failed']}")
        return report

    def ask(self, proxy: Proxy, row: Row, requests: int, **how: Any) -> dict[str, Any]:
        """So many requests of this row."""
        try:
            return self._ask(proxy, row, requests, **how)
        except Unsound as unsound:
            raise Unsound(f"{proxy.name}, {row.name}: {unsound}") from None

    def _ask(self, proxy: Proxy, row: Row, requests: int, **how: Any) -> dict[str, Any]:
        # A proxy that does not translate is asked for what the provider speaks.
        text = body(proxy.model(row.dialect if proxy.translates else "openai"), row.size, row.stream)
        job = {"address": proxy.address, "path": proxy.path, "headers": proxy.headers, "body": text}
        return self.job(**job, **{"connections": row.connections, "requests": requests, **how})

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def cpu(rig: Rig, proxy: Proxy, row: Row) -> float:
    """Microseconds of CPU time for a request."""
    before = proxy.cpu()
    rig.ask(proxy, row, row.requests)
    return (proxy.cpu() - before) / row.requests * 1e6


def latency(rig: Rig, proxy: Proxy, row: Row, rate: float, seconds: float) -> list[int]:
    """Median and 99th percentile at this rate, in microseconds."""
    report = rig.ask(proxy, row, int(rate * seconds), rate=rate, connections=64)
    return report["latency"][:2]


class Watched:
    """The most memory that a proxy holds while something runs.

    Whoever asks for it holds the proxy up for milliseconds, so it is not asked for in the seconds in which latency is measured.
    """

    def __init__(self, proxy: Proxy, after: float):
        self.proxy, self.after, self.peak, self.over = proxy, after, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        self.over.wait(self.after)
        while True:
            self.peak = max(self.peak, self.proxy.memory())
            if self.over.wait(0.5):
                return

    def __enter__(self) -> Watched:
        self.thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.over.set()
        self.thread.join()


class Counted:
    """A proxy under callgrind, which counts the instructions of its own code (not those of the kernel)."""

    def __init__(self, proxy: Proxy):
        self.proxy = proxy
        self.out = proxy.directory / "callgrind"
        proxy.wrap = [
            "valgrind", "--tool=callgrind", "--instr-atstart=yes", f"--callgrind-out-file={self.out}", "--error-limit=no",
            "--max-threads=1000", "--fair-sched=yes", "--dump-instr=no", "--compress-strings=no", "--separate-threads=no", "-q",
        ]  # fmt: skip

    def count(self, rig: Rig, row: Row, keep: Path | None = None) -> float:
        """Instructions for a request of this row, once everything is warm."""
        rig.ask(self.proxy, row, max(row.counted // 4, 10), connections=4)
        self._settle()
        self._control("-z")
        rig.ask(self.proxy, row, row.counted, connections=4)
        # What is done behind an answer, like booking it, belongs to it.
        time.sleep(1)
        self._control("-d")
        dump = max(self.proxy.directory.glob("callgrind.*"), key=lambda path: path.stat().st_mtime_ns)
        text = dump.read_text(errors="replace")
        found = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
        if keep:
            keep.parent.mkdir(parents=True, exist_ok=True)
            keep.write_text(text)
        dump.unlink()
        return int(found.group(1)) / row.counted

    def _settle(self) -> None:
        """Waits until what a start does once is over, two minutes at most: with many keys it tidies its journal up."""
        for _ in range(120):
            before = self.proxy.cpu()
            time.sleep(1)
            # Not nothing: Pingora's clock ticks.
            if self.proxy.cpu() - before < 0.03:
                return

    def _control(self, what: str) -> None:
        command = ["callgrind_control", what, str(self.proxy.process.pid)]
        subprocess.run(command, check=True, capture_output=True, text=True)


def instructions(rig: Rig, rows: list[Row], keep: Path | None = None, **furnished: int) -> dict[str, dict[str, float]]:
    """Instructions for a request, by row and proxy."""
    counts: dict[str, dict[str, float]] = {row.name: {} for row in rows}
    for proxy in (Bare(rig.provider), Perpetuo(rig.provider, **furnished)):
        counted = Counted(proxy)
        if isinstance(proxy, Perpetuo):
            # Tenants are made without callgrind, which takes fifty times as long, and so is the ledger filled.
            proxy.wrap, wrap = [], proxy.wrap
            proxy.start()
            if proxy.requests:
                rig.ask(proxy, rows[0], proxy.requests)
            proxy.stop()
            proxy.wrap = wrap
        proxy.start()
        try:
            for row in rows:
                path = keep / f"{row.name}.{proxy.name.split()[0].lower()}.callgrind" if keep else None
                counts[row.name][proxy.name] = counted.count(rig, row, path)
        finally:
            proxy.discard()
    return counts
