"""A provider played from its recordings: a small HTTP server on a free port of 127.0.0.1.

It answers the routes of every provider with what was queued, and keeps what it received. Control, for
clients that don't share the process:

    POST /__play   {"items": [item, ...]}   replaces the queue and forgets what was received
    GET  /__seen                            what was received: [{"method", "path", "headers", "body"}]

An item is one answer: `{"id": "openai-chat-…"}` plays a recording (with `"cut": n` only its first n bytes, then the
connection is closed in the middle of the body, or with `"hang": true` stays open in silence); `{"status": 500}` fails;
`{"hang": true}` never answers; `{"reset": true}` resets the connection. Without an item the answer is a 501, which no
test expects.

Bodies of streams travel in pieces, cut in one of the ways of `recorded.cutting`: the same one for the same id and seed.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from recorded import cutting, recording

# What every route ends in, whatever stands before it.
ROUTES = (
    "/chat/completions", "/embeddings", "/v1/messages", "/converse", "/converse-stream", "/v2/chat", "/v2/embed",
    "/api/chat", "/api/embed", ":generateContent", ":streamGenerateContent", ":batchEmbedContents", ":embedContent",
    ":predict", ":rawPredict", ":streamRawPredict",
)  # fmt: skip
# Hop-by-hop headers, and those that belong to the encoding or the moment of the recording.
DROPPED = {"content-encoding", "content-length", "transfer-encoding", "connection", "date", "server", "set-cookie"}
# What a recorder wrote in the place of a value.
REDACTED = "**REDACTED**"
HANG_SECONDS = 20


class Replay:
    """The server, its queue and its memory. Use as a context manager, or `start` and `stop`."""

    def __init__(self, seed: int = 0, port: int = 0):
        self.seed = seed
        self.queue: deque[dict[str, Any]] = deque()
        self.seen: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        # Set when the other side leaves a request that hangs.
        self.left = threading.Event()
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.replay = self
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Replay:
        self.thread.start()
        return self

    def __exit__(self, *_unused) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def root(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def base_url(self, provider: str) -> str:
        """The address as the provider's own SDK wants it."""
        return self.root + {"openai": "/v1", "groq": "/openai/v1", "anthropic": ""}[provider]

    def play(self, *items: dict[str, Any] | str) -> None:
        """Replaces the queue; a text is the id of a recording."""
        with self.lock:
            self.queue = deque({"id": item} if isinstance(item, str) else item for item in items)
            self.seen = []
            self.left.clear()

    def received(self, exchange: dict[str, Any]) -> dict[str, Any] | None:
        """Remembers a request and gives what to answer."""
        with self.lock:
            self.seen.append(exchange)
            return self.queue.popleft() if self.queue else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    replay: Replay

    def handle_error(self, request, client_address) -> None:
        """A gateway may drop a connection at any time; anything else is a fault of this file."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_unused) -> None:
        """Silence: the tests say what went wrong."""

    def do_GET(self) -> None:
        if self.path == "/__seen":
            return self._json(200, self.server.replay.seen)
        return self._answer(b"")

    def do_POST(self) -> None:
        body = self._read_body()
        if self.path == "/__play":
            self.server.replay.play(*json.loads(body)["items"])
            return self._json(200, {})
        return self._answer(body)

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, body: bytes) -> None:
        if not self.path.split("?")[0].endswith(ROUTES):
            return self._json(404, {"error": {"message": f"the replay has no route {self.path}"}})
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = {"method": self.command, "path": self.path, "headers": headers, "body": body.decode("utf-8")}
        item = self.server.replay.received(exchange)
        if item is None:
            return self._json(501, {"error": {"message": "nothing is queued in the replay"}})
        if "id" in item:
            self._play(recording.load(item["id"]), item.get("cut"), item.get("way", self.server.replay.seed))
        elif "status" in item:
            self._fail(item)
        if item.get("hang"):
            self._hang()
        if item.get("reset"):
            self._reset()
        return None

    def _fail(self, item: dict[str, Any]) -> None:
        failure = {"error": {"message": f"simulated {item['status']}", "type": "server_error", "param": None, "code": None}}
        self._json(item["status"], item.get("body", failure), item.get("headers"))

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _play(self, played: recording.Recording, cut: int | None, way: int) -> None:
        headers = {name.lower(): value for name, value in played.headers.items()}
        streams = played.stream and played.status == 200
        if headers.get("content-type", REDACTED) == REDACTED:
            headers["content-type"] = played.framing
        self.send_response(played.status)
        for name, value in headers.items():
            if name not in DROPPED and value != REDACTED:
                self.send_header(name, value)
        if not streams:
            self.send_header("content-length", str(len(played.body)))
            self.end_headers()
            self.wfile.write(played.body[:cut])
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in cutting.pieces(played.body[:cut], played.id, way):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = cut is not None

    def _hang(self) -> None:
        """Says nothing until the other side leaves."""
        if select.select([self.connection], [], [], HANG_SECONDS)[0]:
            self.server.replay.left.set()
        self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def main() -> None:
    """Runs one replay for use by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--play", nargs="*", default=[], metavar="ID", help="recordings to answer with, in this order")
    options = parser.parse_args()
    replay = Replay(options.seed, options.port)
    replay.play(*options.play)
    print(f"replaying at {replay.root}", flush=True)
    replay.server.serve_forever()


if __name__ == "__main__":
    main()
