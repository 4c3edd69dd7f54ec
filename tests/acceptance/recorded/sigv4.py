"""AWS's Signature Version 4, checked: what the signature of a received request must be.

From AWS's documentation ("Create a signed AWS API request"), without any of the gateway's code. Not here: whether the time of
the request is near, and which credential should have signed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any
from urllib.parse import quote

AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})")
# What must be signed, else somebody in between could change it.
SIGNED = {"host", "x-amz-date"}


def problem(exchange: dict[str, Any], options: dict[str, str]) -> str | None:
    """What is wrong with the signature; None if nothing is. `options` are those of the credential."""
    headers = exchange["headers"]
    found = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not found:
        return "no signature of the fourth version"
    key, *scope = found[1].split("/")
    date = headers.get("x-amz-date", "")
    wanted = [options["access_key_id"], date[:8], options["region"], "bedrock", "aws4_request"]
    if [key, *scope] != wanted:
        return f"the scope {scope} of the key {key}"
    if headers.get("x-amz-security-token") != options.get("session_token"):
        return "another session token than the credential's"
    names = found[2].split(";")
    must = SIGNED | ({"x-amz-security-token"} if "session_token" in options else set())
    if names != sorted(names) or not must <= set(names):
        return f"signed headers {names}"
    text = _to_sign(exchange, names, date, "/".join(scope))
    return None if _signature(text, scope, options["secret_access_key"]) == found[3] else "another signature"


def _to_sign(exchange: dict[str, Any], names: list[str], date: str, scope: str) -> str:
    path, _, query = exchange["path"].partition("?")
    # The path is encoded once more than it is sent; of the query, the gateway sends none.
    lines = [exchange["method"], quote(path, safe="/-._~"), query]
    lines += [f"{name}:{exchange['headers'][name].strip()}" for name in names]
    lines += ["", ";".join(names), hashlib.sha256(exchange["body"].encode()).hexdigest()]
    canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return "\n".join(["AWS4-HMAC-SHA256", date, scope, canonical])


def _signature(text: str, scope: list[str], secret: str) -> str:
    key = b"AWS4" + secret.encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
