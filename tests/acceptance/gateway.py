"""The gateway as a user runs it: a config file, `perpetuo serve`, a token, and the admin API.

Not here: what clients do with it (`test_*.py`, `corpus.py`), and the providers behind it (`replay`).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay import Replay

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("PERPETUO_BIN") or ROOT / "target" / "release" / "perpetuo").resolve()
START_SECONDS = 30
# The providers that one tenant of the clients has together; every other has one of its own.
STAGED = ("openai", "anthropic", "groq")
PROVIDERS = (
    *STAGED, "azure", "bedrock", "cohere", "gemini", "vertex", "mistral", "ollama", "deepseek", "xai", "openrouter",
    "together", "perplexity", "cerebras", "moonshot", "alibaba", "zai", "huggingface", "vllm", "llamacpp", "voyage",
    "custom",
)  # fmt: skip
# Distinct from every text in the recordings, so that a leak is a leak.
PROVIDER_KEYS = {provider: f"sk-acceptance-{provider}-0123456789" for provider in PROVIDERS}
# An AWS access key, for requests that are signed instead.
AWS_KEY = {"access_key_id": "AKIAACCEPTANCE0123456", "secret_access_key": "acceptance/secret/0123456789", "region": "eu-west-3"}
AWS_TOKEN = {"session_token": "acceptance-session-token-0123456789"}

CONFIG = """\
data_dir = {data}

[server]
listen = "127.0.0.1:{port}"

[metrics]
listen = "127.0.0.1:{metrics}"

[security]
allow_private_upstreams = ["127.0.0.1"]

[timeouts]
first_token = "{first_token}"

[jwt]
hs256_secret = "an acceptance test's own secret, 32 bytes or more"
"""


@dataclass
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Workspace:
    """A tenant with its virtual key."""

    gateway: Gateway
    id: str
    key: str
    # Up to where its ledger was read.
    cursor: str = "0"

    @property
    def base_url(self) -> str:
        return f"{self.gateway.root}/v1"

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        """A request as an app sends it, without any SDK."""
        return self.gateway.request("POST", f"/v1{path}", body, {"authorization": f"Bearer {self.key}", **(headers or {})})


class Gateway:
    """One running `perpetuo serve`."""

    def __init__(self, first_token: str = "20s"):
        self.resources = ExitStack()
        self.directory = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="perpetuo-acceptance-")))
        self.port, metrics = free_ports(2)
        self.root = f"http://127.0.0.1:{self.port}"
        self.config = self.directory / "perpetuo.toml"
        data = json.dumps(str(self.directory / "data"))
        text = CONFIG.format(data=data, port=self.port, metrics=metrics, first_token=first_token)
        self.config.write_text(text, encoding="utf-8")
        self.log = self.directory / "gateway.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.token = ""

    def __enter__(self) -> Gateway:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_unused) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.resources.close()

    def _start(self) -> None:
        # No provider key of the machine may reach the gateway: `serve` would make a workspace of it.
        environment = {name: text for name, text in os.environ.items() if not name.endswith("_API_KEY")}
        log = self.resources.enter_context(self.log.open("wb"))
        command = [str(BINARY), "serve", "--config", str(self.config)]
        self.process = subprocess.Popen(
            command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._await_health()
        mint = [str(BINARY), "token", "--role", "admin", "--config", str(self.config)]
        minted = subprocess.run(mint, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)
        if minted.returncode != 0:
            raise RuntimeError(f"`perpetuo token` failed: {minted.stderr}")
        self.token = minted.stdout.strip()

    def _await_health(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"`perpetuo serve` ended with {self.process.returncode}:\n{self.logged()}")
            try:
                if self.request("GET", "/health").status == 200:
                    return
            except OSError:
                # A TCP port says nothing until it listens, so there is no event to wait for.
                time.sleep(0.05)
        raise RuntimeError(f"`perpetuo serve` was not healthy within {START_SECONDS} s:\n{self.logged()}")

    def logged(self) -> str:
        """Everything the gateway printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        payload = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, payload, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8")
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)
        finally:
            connection.close()

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the admin API; anything but a success is an error here. Gives `data`, or the whole answer."""
        answer = self.request(method, path, body, {"authorization": f"Bearer {self.token}"})
        if answer.status not in (200, 201):
            raise RuntimeError(f"{method} {path} answered {answer.status}: {answer.text}")
        value = answer.json()
        return value.get("data", value) if isinstance(value, dict) else value

    def workspace(self, name: str, credentials: list[dict[str, Any]]) -> Workspace:
        """A tenant with these providers, in order of priority; each has at least `provider` and `base_url`."""
        workspace = self.admin("POST", "/workspaces", {"name": name})["id"]
        for priority, credential in enumerate(credentials, 1):
            body = {"api_key": PROVIDER_KEYS[credential["provider"]], "priority": priority, **credential}
            self.admin("POST", f"/workspaces/{workspace}/providers", body)
        key = self.admin("POST", f"/workspaces/{workspace}/api-keys", {"name": "acceptance"})["key"]
        return Workspace(self, workspace, key)

    def newest_log(self, workspace: Workspace) -> dict[str, Any]:
        """The last request in the log of a tenant."""
        return self.admin("GET", f"/workspaces/{workspace.id}/logs?limit=1")["logs"][0]


    def newest_record(self, workspace: Workspace) -> dict[str, Any]:
        """The last request in the ledger of a tenant, with its attempts and their cost in pico-dollars."""
        path = f"/workspaces/{workspace.id}/logs/export?cursor={workspace.cursor}"
        answer = self.request("GET", path, None, {"authorization": f"Bearer {self.token}"})
        if answer.status != 200:
            raise RuntimeError(f"GET {path} answered {answer.status}: {answer.text}")
        record = json.loads(answer.text.splitlines()[-1])
        workspace.cursor = record["cursor"]
        return record


@dataclass
class Pair:
    """A tenant whose model `team-model` is served by a first provider and, should that fail, by a second."""

    first: Replay
    second: Replay
    workspace: Workspace


def pair(gateway: Gateway, name: str, providers: tuple[str, str], resources: ExitStack) -> Pair:
    """Builds a pair; both providers know the model under their own name."""
    replays = [resources.enter_context(Replay()) for _ in providers]
    credentials = [
        {"provider": provider, "base_url": replay.base_url(provider), "models": {"team-model": f"{provider}-model"}}
        for provider, replay in zip(providers, replays, strict=True)
    ]
    return Pair(*replays, gateway.workspace(name, credentials))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
