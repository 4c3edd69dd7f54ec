"""A real Prometheus on a free port, and promtool.

Not here: what it scrapes (`scenario`), what is asked of it (`test_*`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gateway import free_ports

START_SECONDS = 30
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: perpetuo
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def tool(name: str) -> str:
    """Where a program of Debian's package `prometheus` is."""
    found = shutil.which(name)
    assert found, f"{name} is not in the PATH: tests/acceptance/run unpacks Debian's package `prometheus`"
    return found


def promtool(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs promtool to its end."""
    return subprocess.run([tool("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False, **options)


class Prometheus:
    """Scrapes one address each second. Use as a context manager."""

    def __init__(self, scraped: int, rules: list[Path]):
        self.resources = ExitStack()
        directory = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="perpetuo-prometheus-")))
        (port,) = free_ports(1)
        self.root = f"http://127.0.0.1:{port}"
        config = directory / "prometheus.yml"
        names = ", ".join(json.dumps(str(path)) for path in rules)
        config.write_text(CONFIG.format(rules=names, port=scraped), encoding="utf-8")
        self.log = directory / "prometheus.log"
        self.command = [
            tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ]  # fmt: skip

    def __enter__(self) -> Prometheus:
        log = self.resources.enter_context(self.log.open("wb"))
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.resources.callback(self._stop)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, f"prometheus ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"prometheus was not ready within {START_SECONDS} s:\n{self.log.read_text()}"
            # A TCP port says nothing until it listens, so there is no event to wait for.
            time.sleep(0.05)
        return self

    def __exit__(self, *_unused) -> None:
        self.resources.close()

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.root}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of the API; a refusal is an error that has its words."""
        body = urllib.parse.urlencode(parameters).encode() if parameters else None
        try:
            with urllib.request.urlopen(f"{self.root}/api/v1/{path}", data=body, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            raise ValueError(f"{refusal.read().decode()}: {parameters}") from refusal

    def values(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression is now: labels and value of each series."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def has(self, selector: str) -> bool:
        """Whether any series matches."""
        return bool(self.ask("series", **{"match[]": selector}))
