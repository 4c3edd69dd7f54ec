"""A gateway in the middle of a bad night: mixed traffic from many apps, and everything that can go wrong at once.

Not here: what is asked of its figures (`test_live`). Invariant: the traffic goes on, round after round, until the scenario ends, so that
every rate has something to rise from.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import threading
import tomllib
from collections.abc import Callable
from contextlib import ExitStack

from gateway import BINARY, Gateway, Workspace, free_ports

from provider import Provider

PATIENCE = 30
STRATEGIES = ("fastest", "cheapest", "reliable", "default")
HELLO = [{"role": "user", "content": "Hello, how are you today?"}]
# What a configuration must not be.
BROKEN = "\n[server]\nlisten = 7\n"


class Night:
    """The gateway, its providers, its apps. Use as a context manager; traffic begins with it."""

    def __init__(self) -> None:
        self.resources = ExitStack()
        self.ended = threading.Event()
        self.rounds = itertools.count()
        self.done = 0
        self.trouble: list[str] = []

    def __enter__(self) -> Night:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_unused) -> None:
        self.ended.set()
        self.resources.close()

    def _begin(self) -> None:
        self.gateway = self.resources.enter_context(Gateway(first_token="1s"))
        self.provider = self.resources.enter_context(Provider())
        self.metrics_port = int(tomllib.loads(self.gateway.config.read_text())["metrics"]["listen"].rsplit(":", 1)[1])
        simulated = self._simulate()
        everything = [{"provider": provider, "base_url": url} for provider, url in simulated.items()]
        own = {
            behaviour: [{"provider": "openai", "base_url": self.provider.base_url(behaviour)}]
            for behaviour in ("cached", "refuse", "limit", "dead")
        }
        # Nobody listens there.
        own["gone"] = [{"provider": "openai", "base_url": f"http://127.0.0.1:{free_ports(1)[0]}/v1"}]
        self.main = self.gateway.workspace("main", everything)
        # Of its own, so that its cool-downs and breakers are no one else's.
        self.faulty = self.gateway.workspace("faulty", everything)
        self.own = {behaviour: self.gateway.workspace(behaviour, credentials) for behaviour, credentials in own.items()}
        self.unpriced = self.gateway.workspace("unpriced", [{"provider": "custom", "base_url": simulated["openai"]}])
        self.tight = self.gateway.workspace("tight", [{"provider": "anthropic", "base_url": simulated["anthropic"]}])
        self.gateway.admin("PUT", f"/workspaces/{self.tight.id}", {"limits": {"requests_per_minute": 2}})
        # Whatever lasts long has a thread of its own, or it would hold up the rest.
        for work in (
            self._healthy,
            self._healthy,
            self._streams,
            self._failing,
            self._hanging,
            self._apps,
            self._strangers,
            self._left,
            self._operator,
        ):
            thread = threading.Thread(target=self._again_and_again, args=(work,), daemon=True)
            thread.start()
            self.resources.callback(thread.join, PATIENCE)

    def _simulate(self) -> dict[str, str]:
        ports = dict(zip(("openai", "groq", "anthropic"), free_ports(3), strict=True))
        command = [str(BINARY), "simulate", *(f"--{name}=127.0.0.1:{port}" for name, port in ports.items())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.resources.callback(process.wait)
        self.resources.callback(process.terminate)
        # It says where it listens once it does.
        addresses = dict(process.stdout.readline().split() for _ in ports)
        assert addresses.keys() == ports.keys(), addresses
        return addresses

    def _again_and_again(self, work: Callable[[int], None]) -> None:
        while not self.ended.is_set():
            try:
                work(next(self.rounds))
            except Exception as error:  # Whatever it is, a test says it.
                if not self.ended.is_set():
                    self.trouble.append(f"{work.__name__}: {error!r}")
                return
            self.ended.wait(0.05)

    def exposition(self) -> str:
        """The page of metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read().decode()
        finally:
            connection.close()

    # What happens, each a round of its thread.

    def _chat(self, workspace: Workspace, model: str, headers: dict[str, str] | None = None, **fields) -> int:
        return workspace.post("/chat/completions", {"model": model, "messages": HELLO, **fields}, headers).status

    def _healthy(self, turn: int) -> None:
        """Models of the catalogue, by every strategy, whole and as streams; every other request at Groq fails and falls back."""
        route = {"x-perpetuo-route": STRATEGIES[turn % len(STRATEGIES)]}
        for model in ("claude-v1", "groq-fast", "gpt-3.5-turbo"):
            assert self._chat(self.main, model, route, stream=turn % 2 == 0) in (200, 429, 500, 502, 503), model
        self._chat(self.main, "claude-v2", route, logit_bias={"1": 1}, stream=True)
        self.main.post("/embeddings", {"model": "text-embedding-3-small", "input": "Hello"})
        self.done += 1

    def _streams(self, _turn: int) -> None:
        self._chat(self.main, "gpt-4", {"x-perpetuo-route": "default"}, stream=True)

    def _failing(self, turn: int) -> None:
        """What the simulated providers do on request."""
        for fault in ("sim-429", "sim-500", "sim-503", "sim-400", "sim-reset"):
            self._chat(self.faulty, f"openai/{fault}")
        self._chat(self.faulty, "groq/sim-truncate", stream=True)
        self._chat(self.faulty, "anthropic/sim-error-event", stream=turn % 2 == 0)

    def _hanging(self, _turn: int) -> None:
        self._chat(self.faulty, "anthropic/sim-hang")

    def _apps(self, _turn: int) -> None:
        """Apps with a key that is refused, limited or out of use, a model nobody knows the price of, and a tight limit."""
        for workspace in (*self.own.values(), self.tight):
            self._chat(workspace, "claude-v1" if workspace is self.tight else "gpt-4o-mini")
        self._chat(self.unpriced, "custom/a-model-of-ours")
        self._chat(self.main, "no-such-model")

    def _strangers(self, _turn: int) -> None:
        """Bad keys, bad bodies, and someone at the admin API."""
        for credential in ("", "Bearer nonsense", f"Bearer pk_{'0' * 43}"):
            self.gateway.request(
                "POST",
                "/v1/chat/completions",
                {"model": "gpt-4", "messages": HELLO},
                {"authorization": credential} if credential else {},
            )
        self.main.post("/chat/completions", {"model": 7})
        for path, token in (
            ("/workspaces", self.gateway.token),
            ("/workspaces", "nonsense"),
            (f"/workspaces/{self.main.id}/usage", self.gateway.token),
        ):
            self.gateway.request("GET", path, None, {"authorization": f"Bearer {token}"})

    def _operator(self, _turn: int) -> None:
        """Someone reloads the configuration, breaks it, and mends it again."""
        config = self.gateway.config
        text = config.read_text(encoding="utf-8")
        for content, sign in ((text, "configuration reloaded"), (text + BROKEN, "configuration refused")):
            config.write_text(content, encoding="utf-8")
            before = self.gateway.logged().count(sign)
            os.kill(self.gateway.process.pid, signal.SIGHUP)
            # A file has no event that works everywhere.
            while self.gateway.logged().count(sign) == before and not self.ended.wait(0.05):
                pass
        config.write_text(text, encoding="utf-8")
        self.ended.wait(1)

    def _left(self, _turn: int) -> None:
        """A client that leaves in the middle of a stream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=PATIENCE)
        body = json.dumps({"model": "gpt-4", "messages": HELLO, "stream": True})
        headers = {"authorization": f"Bearer {self.main.key}", "content-type": "application/json", "x-perpetuo-route": "default"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        connection.getresponse().read(64)
        connection.close()
