"""A provider of OpenAI's API with the faults that the simulated ones do not have. The first part of the path says which.

/cached   answers, with half of the prompt from a cache and half of the answer spent on reasoning
/refuse   401: the key is wrong
/limit    429, come again in a minute
/dead     500
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {
    "prompt_tokens": 2000, "completion_tokens": 40, "total_tokens": 2040,
    "prompt_tokens_details": {"cached_tokens": 1000}, "completion_tokens_details": {"reasoning_tokens": 20},
}  # fmt: skip


def answer(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello."}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": USAGE}


def refusal(kind: str) -> dict[str, Any]:
    return {"error": {"message": "No.", "type": kind, "param": None, "code": kind}}


FAULTS: dict[str, tuple[int, str, dict[str, str]]] = {
    "refuse": (401, "invalid_api_key", {}),
    "limit": (429, "rate_limit_exceeded", {"retry-after": "60"}),
    "dead": (500, "server_error", {}),
}


class Provider:
    """The server. Use as a context manager."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Provider:
        self.thread.start()
        return self

    def __exit__(self, *_unused) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def base_url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{behaviour}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; without this the second waits for an acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        behaviour = self.path.split("/")[1]
        status, kind, headers = FAULTS.get(behaviour, (200, "", {}))
        payload = json.dumps(refusal(kind) if kind else answer(body["model"])).encode()
        self.send_response(status)
        for name, value in {**headers, "content-type": "application/json", "content-length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_unused) -> None:
        pass
