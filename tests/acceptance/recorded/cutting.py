"""How the bytes of a stream travel: cut where it hurts. Every way is deterministic for a recording and a seed."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

PIECES = (1, 2, 3, 5, 8, 40, 200, 1500)
# A body this long, byte by byte, would only be slow; its beginning and its end are cut so, which is where framing happens.
SMALL = 4000


def anywhere(body: bytes, chance: random.Random) -> list[int]:
    """At random bytes: in the middle of events, lines and characters."""
    cuts, at = [], 0
    while at < len(body):
        at += chance.choice(PIECES)
        cuts.append(at)
    return cuts


def every_byte(body: bytes, _chance: random.Random) -> list[int]:
    """Between any two bytes."""
    return [*range(1, min(SMALL, len(body))), *range(max(len(body) - SMALL, SMALL), len(body))]


def nowhere(_body: bytes, _chance: random.Random) -> list[int]:
    """All at once."""
    return []


def between_events(body: bytes, _chance: random.Random) -> list[int]:
    """After each event, as servers flush them."""
    if body[:2] == b"\0\0":
        return frames(body)
    end = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n" if b"\n\n" in body else b"\n"
    return [at + len(end) for at in places(body, end)]


def in_line_endings(body: bytes, _chance: random.Random) -> list[int]:
    """Before each line feed: between the two bytes of a CRLF, and between the two line feeds that end an event."""
    return places(body, b"\n")


def in_characters(body: bytes, chance: random.Random) -> list[int]:
    """Inside each character of more than one byte, and in every escape sequence of JSON."""
    inside = [at for at, byte in enumerate(body) if byte & 0xC0 == 0x80]
    return sorted({*inside, *(at + 1 for at in places(body, b"\\"))}) or anywhere(body, chance)


WAYS: tuple[Callable[[bytes, random.Random], list[int]], ...] = (
    anywhere, every_byte, nowhere, between_events, in_line_endings, in_characters
)  # fmt: skip


def way_of(identity: str, turn: int = 0) -> Callable[[bytes, random.Random], list[int]]:
    """The way of a recording; each further turn takes the next one."""
    return WAYS[(zlib.crc32(identity.encode()) + turn) % len(WAYS)]


def pieces(body: bytes, identity: str, seed: int = 0) -> list[bytes]:
    """The body in the pieces of this recording's way."""
    cuts = way_of(identity, seed)(body, random.Random(f"{seed}/{identity}"))
    edges = [0, *(at for at in cuts if 0 < at < len(body)), len(body)]
    return [body[start:end] for start, end in zip(edges, edges[1:]) if start < end]


def places(body: bytes, what: bytes) -> list[int]:
    """Where it stands."""
    found, at = [], body.find(what)
    while at >= 0:
        found.append(at)
        at = body.find(what, at + len(what))
    return found


def frames(body: bytes) -> list[int]:
    """The ends of binary frames, each of which begins with its length."""
    found, at = [], 0
    while at + 4 <= len(body):
        at += struct.unpack_from(">I", body, at)[0]
        found.append(at)
    return found
