"""Reads the bodies of completions: what they ask for, or which field cannot be taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render import Message
from tiararodney.sekft.resident.serving.errors import ApiError, bad

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAT, TEXT = "chat", "text"
_MAX_STOPS = 16
_MAX_LOGPROBS = 20
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "top_k": (0, -1),
    "min_p": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
}
"""Fields that would change the reply and are not offered, with the values that change nothing."""


@dataclass(frozen=True)
class Asked:
    """What one request asks for.

    Args:
        kind: ``chat`` or ``text``.
        model: name of the base or of an adapter.
        messages: of a chat completion.
        prompts: of a text completion: texts or token ids.
        max_tokens: limit of the reply, None for the default.
        temperature: 0 is greedy.
        top_p: probability mass that is drawn from.
        seed: None for a seed of its own.
        stop: texts that end the reply and are left out of it.
        stream: send tokens as they come.
        usage_in_stream: send the usage as the stream's last chunk.
        logprobs: alternatives with each token's log-probability, None for no log-probabilities.
        token_ids: also return the ids of prompt and reply, as vLLM's ``return_token_ids`` does.
    """

    kind: str
    model: str
    messages: tuple[Message, ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage_in_stream: bool = False
    logprobs: int | None = None
    token_ids: bool = False


def read_completion(body: Any, kind: str) -> Asked:
    """Read the body of a completion.

    Args:
        body: the JSON.
        kind: `CHAT` or `TEXT`.

    Raises:
        ApiError: a field is missing, has another shape, or asks for what is not offered.
    """
    if not isinstance(body, dict):
        raise ApiError(400, f"found {type(body).__name__}, expected a JSON object.")
    for name, neutral in _NEUTRAL.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            raise ApiError(400, f"{name}: found {str(value)[:80]}, which is not offered here. Leave it out.", name)
    stream = _flag(body, "stream")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise bad("stream_options", options, "an object")
    return Asked(
        kind=kind,
        model=_text(body, "model"),
        messages=read_messages(body.get("messages")) if kind == CHAT else (),
        prompts=_prompts(body.get("prompt")) if kind == TEXT else (),
        max_tokens=_limit(body, kind),
        temperature=_number(body, "temperature", 1.0, 0.0, 100.0),
        top_p=_number(body, "top_p", 1.0, 0.0, 1.0),
        seed=_whole(body, "seed"),
        stop=_stops(body.get("stop")),
        stream=stream,
        usage_in_stream=stream and bool(options.get("include_usage")),
        logprobs=_logprobs(body, kind),
        token_ids=_flag(body, "return_token_ids"),
    )


def read_messages(value: Any) -> tuple[Message, ...]:
    """Read the messages of a chat; content may be a text or a list of text parts.

    Raises:
        ApiError: they have another shape.
    """
    if not isinstance(value, list) or not value:
        raise bad("messages", value, "a list of {role, content}")
    out = []
    for i, message in enumerate(value):
        where = f"messages.{i}"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise bad(where, message, "{role, content}")
        if message.get("tool_calls"):
            raise ApiError(400, f"{where}.tool_calls: tool calls are not rendered here.", f"{where}.tool_calls")
        out.append(Message(message["role"], _content(message.get("content"), f"{where}.content")))
    return tuple(out)


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in value
    ):
        return "".join(p["text"] for p in value)
    raise bad(where, value, "a text or a list of text parts")


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(value, str):
        return (value,)
    if _is_ids(value):
        return (tuple(value),)
    if isinstance(value, list) and value and all(isinstance(v, str) or _is_ids(v) for v in value):
        return tuple(v if isinstance(v, str) else tuple(v) for v in value)
    raise bad("prompt", value, "a text, token ids, or a list of these")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(v) is int and v >= 0 for v in value)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise bad(name, value, "the name of a model (see /v1/models)" if name == "model" else "a text")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise bad(name, value, "true or false")


def _number(body: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise bad(name, value, f"a number from {least:g} to {most:g}")
    if name == "top_p" and value == 0:
        raise bad(name, value, "a number above 0")
    return float(value)


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None or type(value) is int:
        return value
    raise bad(name, value, "a whole number")


def _limit(body: Mapping[str, Any], kind: str) -> int | None:
    for name in ("max_completion_tokens", "max_tokens") if kind == CHAT else ("max_tokens",):
        value = _whole(body, name)
        if value is not None:
            if value < 1:
                raise bad(name, value, "1 or more")
            return value
    return None


def _stops(value: Any) -> tuple[str, ...]:
    if value is None or value == []:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise bad("stop", value, f"a text or a list of at most {_MAX_STOPS} texts, none empty")
    return tuple(stops)


def _logprobs(body: Mapping[str, Any], kind: str) -> int | None:
    """Read how many alternatives are asked for: chat has a flag and a number, text completions have the number."""
    if kind == CHAT:
        if not _flag(body, "logprobs"):
            if body.get("top_logprobs"):
                raise bad("top_logprobs", body["top_logprobs"], "logprobs: true beside it")
            return None
        value = _whole(body, "top_logprobs") or 0
        name = "top_logprobs"
    else:
        name, number = "logprobs", _whole(body, "logprobs")
        if number is None:
            return None
        value = number
    if not 0 <= value <= _MAX_LOGPROBS:
        raise bad(name, value, f"a number from 0 to {_MAX_LOGPROBS}")
    return value
