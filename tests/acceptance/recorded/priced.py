"""What each recorded exchange costs, from the provider's own usage and `conf/models.toml`, and whether the ledger says the same.

Nothing of the gateway's arithmetic is used: usage is read from the recorded bytes by what the provider documents, prices with
`tomllib` into `Decimal`. Where the ledger says `exact` the difference must be zero pico-dollars. Not here: how a wire is
read otherwise (`wires`).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, time, timezone
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Iterator

from .reading import events
from .recording import FRAMES, NDJSON, SSE, Recording
from .result import Result
from .wires import Wire, openai

CATALOGUE = Path(__file__).resolve().parents[3] / "conf" / "models.toml"
PICO = Decimal(10) ** 12
MILLION = Decimal(10) ** 6
# Providers whose usage says what they charge, in dollars.
CHARGING = {"openrouter", "perplexity", "xai"}
# Service tiers by all the names that they have; what is in neither is a tier that nobody knows.
USUAL = {None, "", "auto", "default", "standard", "on_demand", "traffic_type_unspecified", 0, 1}
PREPAID = {"provisioned", "provisioned_throughput", "reserved", "scale", 2}
TIERS = {"flex": "flex", "on_demand_flex": "flex", "priority": "priority", "on_demand_priority": "priority", "batch": "batch"}


@dataclass
class Used:
    """What a provider billed. `input`, `read`, `written` and `output` do not overlap; the others are parts of them."""

    input: int = 0
    read: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0
    heard: int = 0
    spoken: int = 0
    read_heard: int = 0
    hour: int = 0
    seen: int = 0
    drawn: int = 0
    searches: int = 0
    tier: Any = None
    regional: bool = False
    charged: Decimal | None = None
    # Other models that took part.
    others: list[tuple[str, Used]] = field(default_factory=list)


@dataclass
class Expected:
    """`priced`, `reported`, `unpriced`, `nothing`, or `doubtful` (a tier, a search or a model without a price)."""

    kind: str
    pico: int = 0
    why: str = ""


# --- what the provider said ---------------------------------------------------------------------------------------------


def pieces(recording: Recording) -> list[Any]:
    """The JSON of an answer: one value, or one for each event of a stream."""
    match recording.framing:
        case framing if framing == FRAMES:
            return list(payloads(recording.body))
        case framing if framing == SSE:
            told = [data for _name, data in events(recording.text) if data.strip() not in ("", "[DONE]")]
            return [json.loads(data, parse_float=Decimal) for data in told]
        case framing if framing == NDJSON:
            return [json.loads(line, parse_float=Decimal) for line in recording.text.splitlines() if line.strip()]
    body = json.loads(recording.text, parse_float=Decimal)
    return body if isinstance(body, list) else [body]


def payloads(body: bytes) -> Iterator[Any]:
    """Amazon's frames: length, length of the headers, checksum; headers; payload; checksum."""
    while body:
        total, head = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        payload = body[12 + head : total - 4]
        yield json.loads(payload, parse_float=Decimal) if payload else {}
        body = body[total:]


def used(recording: Recording) -> Used | None:
    """What the recorded answer bills; None where it tells no tokens."""
    said = pieces(recording)
    match recording.endpoint:
        case "messages":
            return anthropic(said)
        case "converse" | "converse_stream":
            return bedrock(said)
        case "generateContent" | "streamGenerateContent" | "batchEmbedContents" | "embedContent" | "predict":
            return google(said)
        case "chat_v2":
            return cohere(said)
        case "ollama_chat":
            return ollama(said)
        case "embeddings" if recording.provider == "cohere":
            units = said[0]["meta"]["billed_units"]
            return Used(input=count(units, "input_tokens") + count(units, "image_tokens"))
    return compatible(said, recording.provider)


def count(holder: Any, name: str) -> int:
    value = (holder or {}).get(name)
    return max(0, int(value)) if isinstance(value, (int, Decimal)) else 0


def compatible(said: list[Any], provider: str) -> Used | None:
    """OpenAI's: the prompt includes what a cache had, the completion the reasoning."""
    tiers = [piece["service_tier"] for piece in said if isinstance(piece.get("service_tier"), str)]
    alone = [piece["usage"] for piece in said if piece.get("choices") == [] and piece.get("usage")]
    choices = {choice.get("index", 0) for piece in said for choice in piece.get("choices") or []}
    # llama.cpp tells the usage of each choice when it ends.
    if provider == "llamacpp" and len(choices) > 1 and len(alone) > 1:
        each = [compatible([{"usage": usage}], provider) for usage in alone]
        names = ("input", "read", "output", "reasoning")
        return Used(**{name: sum(getattr(one, name) for one in each) for name in names})
    places = [usage for piece in said for usage in usages_of(piece)]
    usage = places[-1] if places else None
    counted = openai.usage_of(usage)
    if counted is None or not (counted.prompt or counted.completion):
        return None
    cached = counted.cached or count(usage, "num_cached_tokens")
    read = min(cached, counted.prompt)
    written = min(counted.written, counted.prompt - read)
    asked, answered = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return Used(
        input=counted.prompt - read - written,
        read=read,
        written=written,
        output=counted.completion,
        reasoning=counted.reasoning,
        heard=counted.audio_in,
        spoken=counted.audio_out,
        seen=count(asked, "image_tokens"),
        drawn=count(answered, "image_tokens"),
        searches=count(usage.get("server_tool_use_details"), "web_search_requests"),
        tier=usage.get("service_tier") or (tiers[-1] if tiers else None),
        charged=charged(usage) if provider in CHARGING else None,
    )


def usages_of(piece: Any) -> Iterator[dict[str, Any]]:
    """Every place in which a chunk may have a usage."""
    inside = [choice.get("usage") for choice in piece.get("choices") or [] if isinstance(choice, dict)]
    for usage in (piece.get("usage"), *inside, (piece.get("x_groq") or {}).get("usage")):
        if isinstance(usage, dict) and any(isinstance(value, (int, Decimal)) and value for value in usage.values()):
            yield usage


def charged(usage: dict[str, Any]) -> Decimal | None:
    """Dollars: OpenRouter's `cost`, with what a key of one's own was charged beside it; Perplexity's; xAI's ticks."""
    if "cost_in_usd_ticks" in usage:
        return Decimal(usage["cost_in_usd_ticks"]) / 10**10
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if cost is None:
        return None
    beside = (usage.get("cost_details") or {}).get("upstream_inference_cost") if usage.get("is_byok") else None
    return Decimal(cost) + Decimal(beside or 0)


def anthropic(said: list[Any]) -> Used | None:
    """Later counts stand for the whole answer so far. The input is without what a cache read or wrote."""
    whole: dict[str, Any] = {}
    for piece in said:
        for usage in (piece.get("usage"), (piece.get("message") or {}).get("usage")):
            whole.update({name: value for name, value in (usage or {}).items() if value is not None})
    if not whole:
        return None
    bill = counts(whole)
    bill.reasoning = count(whole.get("output_tokens_details"), "thinking_tokens")
    bill.searches = count(whole.get("server_tool_use"), "web_search_requests")
    # Its priority is capacity that was bought ahead.
    bill.tier = "reserved" if whole.get("service_tier") == "priority" else whole.get("service_tier")
    bill.regional = whole.get("inference_geo") not in (None, "", "global", "not_available")
    for step in whole.get("iterations") or []:
        if step.get("type") != "message" and step.get("model"):
            bill.others.append((step["model"], counts(step)))
        elif step.get("type") != "message":
            for name, value in vars(counts(step)).items():
                if isinstance(value, int) and not isinstance(value, bool):
                    setattr(bill, name, getattr(bill, name) + value)
    return bill


def counts(usage: dict[str, Any]) -> Used:
    return Used(
        input=count(usage, "input_tokens"),
        read=count(usage, "cache_read_input_tokens"),
        written=count(usage, "cache_creation_input_tokens"),
        hour=count(usage.get("cache_creation"), "ephemeral_1h_input_tokens"),
        output=count(usage, "output_tokens"),
    )


def bedrock(said: list[Any]) -> Used | None:
    """Converse: the input is without what a cache read or wrote."""
    holder = next((piece for piece in reversed(said) if piece.get("usage")), None)
    if holder is None:
        return None
    usage = holder["usage"]
    return Used(
        input=count(usage, "inputTokens"),
        read=count(usage, "cacheReadInputTokens"),
        written=count(usage, "cacheWriteInputTokens"),
        hour=sum(count(detail, "inputTokens") for detail in usage.get("cacheDetails") or [] if detail.get("ttl") == "1h"),
        output=count(usage, "outputTokens"),
        tier=(holder.get("serviceTier") or {}).get("type"),
    )


def google(said: list[Any]) -> Used | None:
    """The prompt includes what a cache had, not what tools put into it; thoughts stand beside the candidates, mostly."""
    searches = max((sum(map(queries, piece.get("candidates") or [])) for piece in said), default=0)
    predictions = said[0].get("predictions") if said else None
    if predictions:
        return Used(input=sum(int(one["embeddings"]["statistics"]["token_count"]) for one in predictions))
    told = [piece["usageMetadata"] for piece in said if piece.get("usageMetadata")]
    full = [usage for usage in told if any(count(usage, name) for name in ("promptTokenCount", "candidatesTokenCount", "totalTokenCount"))]
    if not full:
        return None
    usage = full[-1]
    prompt, answer, thoughts = (count(usage, f"{name}TokenCount") for name in ("prompt", "candidates", "thoughts"))
    tools = count(usage, "toolUsePromptTokenCount")
    read = min(count(usage, "cachedContentTokenCount"), prompt)
    among = count(usage, "totalTokenCount") == prompt + tools + answer
    asked = usage.get("promptTokensDetails") or usage.get("promptTokenDetails")
    kept, made = usage.get("cacheTokensDetails"), usage.get("candidatesTokensDetails")
    fresh = prompt - read + tools
    return Used(
        input=fresh,
        read=read,
        output=answer + (0 if among else thoughts),
        reasoning=thoughts,
        heard=min(max(0, modality(asked, "AUDIO", 4) - modality(kept, "AUDIO", 4)), fresh),
        seen=min(max(0, modality(asked, "IMAGE", 2) - modality(kept, "IMAGE", 2)), fresh),
        read_heard=min(modality(kept, "AUDIO", 4), read),
        spoken=modality(made, "AUDIO", 4),
        drawn=modality(made, "IMAGE", 2),
        searches=searches,
        tier=next((told[-1][name] for name in ("serviceTier", "trafficType") if told[-1].get(name) is not None), None),
    )


def queries(candidate: dict[str, Any]) -> int:
    return len((candidate.get("groundingMetadata") or {}).get("webSearchQueries") or [])


def modality(details: list[Any] | None, name: str, number: int) -> int:
    return sum(count(detail, "tokenCount") for detail in details or [] if detail.get("modality") in (name, number))


def cohere(said: list[Any]) -> Used | None:
    """What is billed is in `billed_units`, which is less than `tokens`."""
    usages = [usage for piece in said for usage in (piece.get("usage"), (piece.get("delta") or {}).get("usage")) if usage]
    if not usages:
        return None
    units = usages[-1].get("billed_units") or usages[-1].get("tokens") or {}
    return Used(input=count(units, "input_tokens"), output=count(units, "output_tokens"))


def ollama(said: list[Any]) -> Used | None:
    last = said[-1]
    if "prompt_eval_count" not in last and "eval_count" not in last:
        return None
    return Used(input=count(last, "prompt_eval_count"), output=count(last, "eval_count"))


# --- what it costs ------------------------------------------------------------------------------------------------------


class Catalogue:
    """Prices of `conf/models.toml`."""

    def __init__(self) -> None:
        whole = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"), parse_float=Decimal)
        self.models = {(model["provider"], model.get("upstream", model["name"])): model for model in whole["model"]}

    def prices(self, provider: str, model: str, moment: datetime) -> dict[str, Any] | None:
        """The prices of a model, or of its undated name, that were valid then."""
        undated = re.sub(r"([-@]\d{8}|-\d{4}-\d{2}-\d{2})$", "", model)
        found = self.models.get((provider, model)) or self.models.get((provider, undated))
        if found is None:
            return None
        for change in found.get("prices", []):
            if since(change["from"]) <= moment:
                found = change
        peak = found.get("peak")
        return peak if peak and at_peak(peak, moment) else found


def since(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def at_peak(peak: dict[str, Any], moment: datetime) -> bool:
    if peak.get("weekdays") and moment.weekday() >= 5:
        return False
    now = f"{moment:%H:%M}"
    return any(hours.split("-")[0] <= now < hours.split("-")[1] for hours in peak["hours"])


def expected(bill: Used, prices: Any, own: str) -> Expected:
    """What a bill comes to. `prices` gives those of a model by its name; `own` is the one that was asked."""
    if bill.charged is not None:
        return Expected("reported", whole_pico(bill.charged))
    if not (bill.input or bill.read or bill.written or bill.output or bill.searches or bill.others):
        return Expected("nothing")
    tier = bill.tier.lower() if isinstance(bill.tier, str) else bill.tier
    if tier in PREPAID:
        return Expected("unpriced", why="committed")
    tariff = prices(own)
    if tariff is None:
        return Expected("unpriced", why="no_price")
    service = TIERS.get(tier, "usual" if tier in USUAL else "unknown")
    total, doubt = Decimal(tariff.get("request", 0)), ""
    for usage, model in [(bill, tariff), *((usage, prices(name)) for name, usage in bill.others)]:
        if model is None:
            doubt = doubt or "no_price_of_other_model"
            continue
        sheet = model if service == "usual" else model.get(service)
        doubt = doubt or ("" if sheet else "no_tier_price")
        tokens = cost(usage, sheet or model)
        total += tokens * model.get("regional", 1) if bill.regional else tokens
    if bill.searches and "web_search" not in tariff:
        doubt = doubt or "no_search_price"
    total += bill.searches * tariff.get("web_search", 0)
    return Expected("doubtful" if doubt else "priced", whole_pico(total), doubt)


def cost(usage: Used, sheet: dict[str, Any]) -> Decimal:
    """Dollars for tokens: the size of the whole prompt chooses the rates."""
    rates = sheet
    for tier in sheet.get("tiers", []):
        if usage.input + usage.read + usage.written > tier["above"]:
            rates = tier
    asked, answer = rates["input"], rates.get("output", 0)
    if usage.reasoning:
        answer = rates.get("thinking_output", answer)
    read, written = rates.get("cached_read", asked), rates.get("cache_write", asked)
    heard = min(usage.heard, usage.input)
    seen = min(usage.seen, usage.input - heard)
    spoken = min(usage.spoken, usage.output)
    drawn = min(usage.drawn, usage.output - spoken)
    thought = min(usage.reasoning, usage.output - spoken - drawn)
    hour, read_heard = min(usage.hour, usage.written), min(usage.read_heard, usage.read)
    total = (
        (usage.input - heard - seen) * asked
        + heard * rates.get("audio_input", asked)
        + seen * rates.get("image_input", asked)
        + (usage.read - read_heard) * read
        + read_heard * rates.get("cached_audio", read)
        + (usage.written - hour) * written
        + hour * rates.get("cache_write_1h", written)
        + (usage.output - spoken - drawn - thought) * answer
        + spoken * rates.get("audio_output", answer)
        + drawn * rates.get("image_output", answer)
        + thought * rates.get("reasoning_output", answer)
    )
    return Decimal(total) / MILLION


def whole_pico(dollars: Decimal) -> int:
    return int((dollars * PICO).quantize(Decimal(1), ROUND_HALF_UP))


# --- against the ledger -------------------------------------------------------------------------------------------------

KINDS = ("priced", "reported", "nothing", "unpriced", "doubtful", "uncounted")


@dataclass
class Books:
    """Compares attempts of the ledger, and remembers how many there were of each kind."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unpriced: Counter[str] = field(default_factory=Counter)

    def judge(self, result: Result, wire: Wire, record: dict[str, Any]) -> None:
        """One success: the last attempt of its record against the recorded usage."""
        recording, attempt = result.recording, record["attempts"][-1]
        provider, model = wire.placement(recording).provider, wire.model(recording)
        moment = datetime.fromisoformat(record["created_at"])
        bill = used(recording)
        if bill is None:
            # Nobody counted, so the gateway estimates, unless it has no price either.
            self.note(recording, "uncounted", "no_figure")
            result.compare("cost", "certainty", attempt["certainty"] in ("estimated", "unpriced"), True)
            return
        wanted = expected(bill, lambda name: self.catalogue.prices(provider, name, moment), model)
        self.note(recording, wanted.kind, wanted.why or f"{provider}/{model}")
        certainty = {"unpriced": "unpriced", "doubtful": "estimated"}.get(wanted.kind, "exact")
        source = {"reported": "reported", "priced": "catalogue", "doubtful": "catalogue"}.get(wanted.kind)
        result.compare("cost", "certainty", attempt["certainty"], certainty)
        result.compare("cost", "cost_source", attempt.get("cost_source"), source)
        result.compare("cost", "why", attempt.get("why"), wanted.why or None)
        result.compare("cost", "pico-dollars", attempt["cost"], wanted.pico)

    def note(self, recording: Recording, kind: str, why: str) -> None:
        for row in (recording.provider, "all"):
            self.kinds[row][kind] += 1
        if kind in ("unpriced", "doubtful"):
            self.unpriced[f"{recording.provider}: {why}"] += 1

    def report(self, results: list[Result]) -> None:
        """The table, provider by kind, and why some have no price."""
        wrong = Counter(result.recording.provider for result in results if "cost" in result.differences)
        wrong["all"] = wrong.total()
        print(f"\n{'provider':12}" + "".join(f"{kind:>12}" for kind in (*KINDS, "mismatches")))
        for row in [*sorted(set(self.kinds) - {"all"}), "all"]:
            print(f"{row:12}" + "".join(f"{self.kinds[row][kind]:>12}" for kind in KINDS) + f"{wrong[row]:>12}")
        print("\nwithout an exact price:")
        for why, number in sorted(self.unpriced.items(), key=lambda entry: (-entry[1], entry[0])):
            print(f"{number:6}  {why}")
