"""What every wire can do, and how a recording is asked for: the seam between the runner and the provider APIs.

A wire reads answers (`read`), makes the request that a client would have sent (`request_of`), and says how the request that
the provider received is compared with the recorded one (`normal`). A wire that has no way back from its own requests to
OpenAI's sends `hi`, which the table counts as a request that is not judged.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from ..reading import Reading
from ..recording import Recording

HI = [{"role": "user", "content": "hi"}]


@dataclass
class Sent:
    """A request for the gateway, and what the provider must receive for it.

    `expected` is None where nothing can be compared. `native` names what was said with the provider's own names, because
    OpenAI's API has no word for it; `lost` names what can't be said at all, and is left out of the comparison.
    """

    body: dict[str, Any]
    expected: dict[str, Any] | None
    native: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Placement:
    """The credential that serves a recording: a provider of the gateway, the path of its base URL, its options as JSON."""

    provider: str
    base_path: str = ""
    options: str = "{}"

    @property
    def is_signed(self) -> bool:
        """Whether requests are signed with a key of the options, and the credential has no other."""
        return "access_key_id" in self.options


class Wire:
    """One provider API. Subclasses say how; there is one instance of each."""

    # Where a client asks for it.
    operation = "/chat/completions"
    # The module that puts recorded requests into OpenAI's terms, with `request_of(recording, address)` and `normal(body)`.
    requests: Any = None
    # Whether the provider's own JSON is forwarded, so that every recorded member must be found again.
    forwarded = False
    # Whether its citations are read.
    cites = False

    def placement(self, recording: Recording) -> Placement:
        """Which provider of the gateway plays it."""
        return Placement(recording.provider)

    def model(self, recording: Recording) -> str:
        """The model's name at the provider."""
        return recording.model

    def path(self, recording: Recording) -> str:
        """Where the provider must be asked: the recorded path."""
        return recording.path

    def read(self, recording: Recording) -> Reading:
        """What the provider said."""
        raise NotImplementedError

    def without_usage_chunk(self, _recording: Recording, reading: Reading) -> Reading:
        """The reading for a client that did not ask for the usage chunk of a stream."""
        return dataclasses.replace(reading, usage=None)

    def request_of(self, recording: Recording) -> Sent:
        """The request whose answer the recording is."""
        if self.requests is None or recording.request is None:
            return self.hi(recording)
        return self.requests.request_of(recording, self.address(recording))

    def hi(self, recording: Recording) -> Sent:
        """Any request for this model."""
        body = {"model": self.address(recording), "messages": HI, "stream": recording.stream}
        if recording.stream:
            body["stream_options"] = {"include_usage": True}
        return Sent(body, None)

    def address(self, recording: Recording) -> str:
        """The model as a client names it."""
        return f"{self.placement(recording).provider}/{self.model(recording)}"

    def normal(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request in a form in which two that mean the same are equal."""
        return self.requests.normal(body) if self.requests else body

    def check_request(self, result: Any, sent: Sent, exchange: dict[str, Any]) -> None:
        """The received body against the expected one, member by member. `result` is a `judge.Result`."""
        received, expected = self.normal(json.loads(exchange["body"])), self.normal(sent.expected)
        for name in sorted(set(received) | set(expected)):
            if not (sent.lost and name not in expected):
                result.compare("request", name, received.get(name, "nothing"), expected.get(name, "nothing"))
