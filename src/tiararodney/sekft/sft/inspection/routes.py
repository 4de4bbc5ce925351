"""Ways to ask a server which tokens it puts before the model.

The first route that answers is taken:

- llama.cpp: ``/apply-template`` renders the messages, ``/tokenize`` encodes the text as its chat completions do;
- vLLM: ``/tokenize`` takes the messages themselves;
- any other: ``usage.prompt_tokens`` of a chat completion of one token, a count and no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tiararodney.sekft.endpoint import UNAUTHORIZED, Endpoint, Refused, Unanswered, UnexpectedAnswer, is_too_long
from tiararodney.sekft.errors import RunFailed

_ATTEMPTS = 2
_FAILED = 500
_SHOWN = 80
_PROBE = [{"role": "user", "content": "$ "}]

Prompt = Sequence[int] | int
"""A prompt as a server reports it: its tokens, or only their number."""


@dataclass(frozen=True)
class Route:
    """A way to a server's prompts.

    Args:
        name: what it is called.
        exact: whether it reports tokens, not only their number.
        ask: takes messages; raises `Refused`, `TooLong`, `Unanswered`, `UnexpectedAnswer` or `_NoPrompt`.
        context: tokens that a prompt and its reply may have there, None where the server does not say.
    """

    name: str
    exact: bool
    ask: Callable[[Sequence[Mapping[str, str]]], Prompt]
    context: int | None = None


class TooLong(Exception):
    """The server's context does not take a prompt."""


def find_route(endpoint: Endpoint) -> Route:
    """Find the way in which a server reports its prompts.

    Raises:
        UsageError: it wants another key for that.
        RunFailed: in no way known here.
    """
    failures: dict[str, Exception] = {}
    for route in (
        Route("llama.cpp's /apply-template and /tokenize", exact=True, ask=partial(_llama_cpp, endpoint)),
        Route("vLLM's /tokenize", exact=True, ask=partial(_vllm, endpoint)),
        Route("usage.prompt_tokens of chat completions", exact=False, ask=partial(_usage, endpoint)),
    ):
        try:
            route.ask(_PROBE)
        except (Refused, TooLong, UnexpectedAnswer, Unanswered, _NoPrompt) as error:
            failures[route.name] = error
        else:
            return replace(route, context=_context(endpoint))
    # llama.cpp lists its models without a key, so one may be wanted here for the first time. Others guard routes
    # that they do not have, too: what counts is the last one, which every server has.
    last = list(failures.values())[-1]
    if isinstance(last, Refused) and last.status in UNAUTHORIZED:
        raise endpoint.unauthorized(last)
    tried = "; ".join(f"{name}: {error}" for name, error in failures.items())
    raise RunFailed(f"--endpoint {endpoint.url}: found no way to its prompts ({tried}).")


class _NoPrompt(Exception):
    """An answer without a prompt."""


def ask_along(route: Route, messages: Sequence[Mapping[str, str]]) -> Prompt:
    """Ask along a route that has answered before.

    Raises:
        Refused: the server does not take these messages.
        TooLong: its context does not.
        RunFailed: it answers no longer, or without a prompt.
    """
    try:
        return route.ask(messages)
    except Unanswered as down:
        # llama.cpp says that a template refuses the messages with the status of its own failures.
        if down.status == _FAILED:
            raise Refused("--endpoint", down.status, str(down)) from None
        raise RunFailed(f"--endpoint {down}. It had answered before: is it still up?") from None
    except _NoPrompt as error:
        raise RunFailed(f"--endpoint: {error}; it had answered before.") from None


def _llama_cpp(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    body = {"model": endpoint.model, "messages": messages, "add_generation_prompt": True}
    prompt = _field(endpoint.ask(f"{endpoint.root}/apply-template", body, _ATTEMPTS), "prompt", str)
    # As its chat completions do: /apply-template has taken a BOS off where the tokenizer adds one.
    body = {"model": endpoint.model, "content": prompt, "add_special": True, "parse_special": True}
    return _ids(endpoint.ask(f"{endpoint.root}/tokenize", body, _ATTEMPTS))


def _vllm(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    # As its chat completions do by default: special tokens are the template's business.
    body = {
        "model": endpoint.model,
        "messages": messages,
        "add_generation_prompt": True,
        "add_special_tokens": False,
    }
    return _ids(endpoint.ask(f"{endpoint.root}/tokenize", body, _ATTEMPTS))


def _usage(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    body = {"model": endpoint.model, "messages": messages, "max_tokens": 1, "temperature": 0.0}
    try:
        answer = endpoint.ask(f"{endpoint.api}/chat/completions", body, _ATTEMPTS)
    except Refused as refused:
        if is_too_long(refused):
            raise TooLong(str(refused)) from None
        raise
    usage = _field(answer, "usage", dict)
    count = usage.get("prompt_tokens")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise _NoPrompt(f"found usage {usage!r}, expected prompt_tokens")
    return int(count)


def _context(endpoint: Endpoint) -> int | None:
    """Return the context length in a list of models: vLLM's as `max_model_len`, llama.cpp's as `meta.n_ctx`."""
    try:
        models = endpoint.ask(f"{endpoint.api}/models", None, _ATTEMPTS)["data"]
        named = next((m for m in models if m["id"] == endpoint.model), models[0])
        length = named.get("max_model_len") or named["meta"]["n_ctx"]
    except (Refused, UnexpectedAnswer, Unanswered, KeyError, IndexError, TypeError, AttributeError):
        return None
    return length if isinstance(length, int) and length > 0 else None


def _ids(answer: Any) -> list[int]:
    tokens = _field(answer, "tokens", list)
    # llama.cpp answers a request for tokens of messages with none.
    if not tokens or not all(isinstance(t, int) and not isinstance(t, bool) and t >= 0 for t in tokens):
        raise _NoPrompt(f"found tokens {str(tokens)[:_SHOWN]}, expected ids")
    return list(map(int, tokens))


def _field(answer: Any, name: str, kind: type) -> Any:
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(value, kind):
        raise _NoPrompt(f"found {str(answer)[:_SHOWN]}, expected the field {name!r}")
    return value
