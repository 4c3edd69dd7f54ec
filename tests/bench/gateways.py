"""What is measured: this gateway, a bare Pingora proxy, nginx where it is installed, and any other gateway by its command.

Each is a `Proxy`: how it is started, what a request to it looks like, and what its processes cost. Not here: which jobs there
are (`rows`), and what is made of the figures (`report`).
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
# Two connections for each stream, and some.
FILES = 40_000
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}
SECRET = "a benchmark's own secret, of 32 bytes or more"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(cpus: set[int] | None, room: bool = False):
    """For `preexec_fn`: keeps a process on these CPUs, and lets it have as many files as there may be.

    With `room`, the table of these files has its full size from the start: to enlarge it holds a process up for milliseconds, which
    is what a proxy is measured for, and not who measures.
    """

    def prepare() -> None:
        import resource

        most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], FILES)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except (ValueError, OSError):
            # Not everybody may have more than was given.
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if room:
            os.close(fcntl.fcntl(2, fcntl.F_DUPFD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1))
        if cpus:
            os.sched_setaffinity(0, cpus)

    return prepare


class Proxy:
    """One running proxy. Its processes end with `stop`."""

    name = ""
    # Whether it turns OpenAI's requests into Anthropic's.
    translates = False
    wrap: list[str] = []

    def __init__(self, upstream: str, cpus: set[int] | None = None, threads: int = 1):
        self.upstream, self.cpus, self.threads = upstream, cpus, threads
        self.directory = Path(tempfile.mkdtemp(prefix="perpetuo-bench-"))
        self.port = free_port()
        self.headers: list[str] = ["authorization: Bearer sk-bench"]
        self.path = "/v1/chat/completions"
        self.log = self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_after = 0.0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> Proxy:
        began = time.perf_counter()
        environment = {name: text for name, text in os.environ.items() if not name.endswith("_API_KEY")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env=environment, preexec_fn=pinned(self.cpus),
            )  # fmt: skip
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                    raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')}") from None
                # A TCP port says nothing until it listens, so there is no event to wait for.
                time.sleep(0.001)
        self.ready_after = time.perf_counter() - began
        self.furnish()
        return self

    def furnish(self) -> None:
        """What must be set up once it runs."""

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def model(self, dialect: str) -> str:
        return MODELS[dialect]

    def processes(self) -> list[int]:
        """It and all its children."""
        found, queue = [], [self.process.pid] if self.process else []
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    queue.extend(map(int, task.read_text().split()))
                except OSError:
                    continue
        return found

    def cpu(self) -> float:
        """Seconds of CPU time so far, to the nanosecond: user and system, all threads."""
        total = 0
        for pid in self.processes():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(task.read_text().split()[0])
                except (OSError, IndexError):
                    continue
        return total / 1e9

    def memory(self) -> int:
        """Bytes that it alone holds (PSS), all processes."""
        total = 0
        for pid in self.processes():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        return total


class Bare(Proxy):
    name = "bare Pingora"

    def command(self) -> list[str]:
        return [str(ROOT / "target" / "release" / "bare"), self.address, self.upstream, str(self.threads)]


NGINX = """\
worker_processes {threads}; daemon off; error_log /dev/null; pid {here}/pid; worker_rlimit_nofile 40000;
events {{ worker_connections 30000; }}
http {{
  access_log off; client_body_buffer_size 2m; client_max_body_size 32m; keepalive_requests 1000000000; proxy_buffering off;
  client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
  upstream provider {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {address} backlog=4096;
    location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Nginx(Proxy):
    name = "nginx"

    @staticmethod
    def installed() -> str | None:
        return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

    def command(self) -> list[str]:
        settings = self.directory / "nginx.conf"
        fields = {"threads": self.threads, "here": self.directory, "upstream": self.upstream, "address": self.address}
        settings.write_text(NGINX.format(**fields))
        return [self.installed() or "nginx", "-e", "/dev/null", "-c", str(settings)]


CONFIG = """\
data_dir = "{here}/data"
models = "{here}/models.toml"
[server]
listen = "{address}"
threads = {threads}
[metrics]
listen = "127.0.0.1:{metrics}"
[security]
allow_private_upstreams = ["127.0.0.1"]
[limits]
max_in_flight = 100000
max_in_flight_per_workspace = 100000
max_connections = 100000
max_connections_per_address = 100000
[log]
access = "off"
[jwt]
hs256_secret = "{secret}"
"""

INVENTED = """
[[model]]
name = "invented-{number}"
provider = "openai"
input = 1.0
output = 2.0
"""


class Perpetuo(Proxy):
    """The gateway as an operator runs it: keys checked, metrics, access log and ledger on."""

    name = "Perpetuo"
    translates = True
    binary = Path(os.environ.get("PERPETUO_BIN") or ROOT / "target" / "release" / "perpetuo")

    def __init__(self, *arguments, tenants: int = 1, keys: int = 1, models: int = 0, requests: int = 0, **named):
        super().__init__(*arguments, **named)
        # How many models its catalogue has beside the usual ones, and how many requests its ledger before it is measured.
        self.tenants, self.keys, self.models, self.requests = tenants, keys, models, requests
        self.metrics = free_port()
        self.config = self.directory / "perpetuo.toml"
        self.furnished = False

    def command(self) -> list[str]:
        fields = {"here": self.directory, "address": self.address, "threads": self.threads}
        self.config.write_text(CONFIG.format(**fields, metrics=self.metrics, secret=SECRET))
        invented = (INVENTED.format(number=number) for number in range(self.models))
        (self.directory / "models.toml").write_text("".join([(ROOT / "conf" / "models.toml").read_text(), *invented]))
        return [str(self.binary), "serve", "--config", str(self.config)]

    def furnish(self) -> None:
        if self.furnished:
            return
        mint = [str(self.binary), "token", "--role", "admin", "--config", str(self.config)]
        self.token = subprocess.run(mint, cwd=self.directory, capture_output=True, text=True, check=True).stdout.strip()
        admin = Admin(self.port, self.token)
        first = admin.post("/workspaces", {"name": "bench"})["id"]
        base = f"http://{self.upstream}"
        for provider, url in (("openai", f"{base}/v1"), ("anthropic", base)):
            credential = {"provider": provider, "api_key": "sk-bench", "base_url": url}
            admin.post(f"/workspaces/{first}/providers", credential)
        key = admin.post(f"/workspaces/{first}/api-keys", {"name": "bench"})["key"]
        for number in range(1, self.tenants):
            admin.post("/workspaces", {"name": f"tenant {number}"})
        for number in range(1, self.keys):
            admin.post(f"/workspaces/{first}/api-keys", {"name": f"key {number}"})
        self.headers = [f"authorization: Bearer {key}"]
        self.furnished = True

    def model(self, dialect: str) -> str:
        return f"{dialect}/{MODELS[dialect]}"


class Admin:
    """The admin API, over one connection."""

    def __init__(self, port: int, token: str):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def post(self, path: str, body: dict) -> dict:
        self.connection.request("POST", path, json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text)["data"]


class Candidate(Proxy):
    """Another gateway. Its command may say {address}, {upstream} and {directory}."""

    def __init__(self, name: str, template: str, *arguments, **named):
        super().__init__(*arguments, **named)
        self.name, self.template = name, template

    def command(self) -> list[str]:
        fields = {"address": self.address, "port": self.port, "upstream": self.upstream, "directory": self.directory}
        return [part.format(**fields) for part in shlex.split(self.template)]
