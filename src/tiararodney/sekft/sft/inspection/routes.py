"""How a server tells which tokens it puts before the model.

The first route that answers is taken:

- llama.cpp: ``/apply-template`` renders the messages, ``/tokenize`` encodes the text as its chat completions do;
- vLLM: ``/tokenize`` takes the messages themselves;
- any other: ``usage.prompt_tokens`` of a chat completion of one token, a count and no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tiararodney.sekft.endpoint import Endpoint, EndpointDown, NotJson, Refused
from tiararodney.sekft.errors import RunFailed

_ATTEMPTS = 2
_FAILED = 500
_SHOWN = 80
_PROBE = [{"role": "user", "content": "$ "}]

Told = Sequence[int] | int
"""A prompt as a server tells it: its tokens, or only their number."""


@dataclass(frozen=True)
class Route:
    """A way to a server's prompts.

    Args:
        name: what it is called.
        exact: whether it tells tokens, not only how many there are.
        ask: takes messages; raises `Refused`, `EndpointDown`, `NotJson` or `_NoPrompt`.
    """

    name: str
    exact: bool
    ask: Callable[[Sequence[Mapping[str, str]]], Told]


def find_route(endpoint: Endpoint) -> Route:
    """Find how a server tells its prompt.

    Raises:
        RunFailed: in no way known here.
    """
    failures = []
    for route in (
        Route("llama.cpp's /apply-template and /tokenize", exact=True, ask=partial(_llama_cpp, endpoint)),
        Route("vLLM's /tokenize", exact=True, ask=partial(_vllm, endpoint)),
        Route("usage.prompt_tokens of chat completions", exact=False, ask=partial(_usage, endpoint)),
    ):
        try:
            route.ask(_PROBE)
        except (Refused, NotJson, EndpointDown, _NoPrompt) as error:
            failures.append(f"{route.name}: {error}")
        else:
            return route
    raise RunFailed(f"--endpoint {endpoint.url}: found no way to its prompts ({'; '.join(failures)}).")


class _NoPrompt(Exception):
    """An answer that tells no prompt."""


def ask_along(route: Route, messages: Sequence[Mapping[str, str]]) -> Told:
    """Ask along a route that has answered before.

    Raises:
        Refused: the server does not take these messages.
        RunFailed: it answers no longer, or tells no prompt.
    """
    try:
        return route.ask(messages)
    except EndpointDown as down:
        # llama.cpp says that a template refuses the messages with the status of its own failures.
        if down.refused is not None and down.refused.status == _FAILED:
            raise down.refused from None
        raise RunFailed(f"{down} It had answered before: is it still up?") from None
    except _NoPrompt as error:
        raise RunFailed(f"--endpoint: {error}; it had answered before.") from None


def _llama_cpp(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Told:
    body = {"model": endpoint.model, "messages": messages, "add_generation_prompt": True}
    prompt = _field(endpoint.ask(f"{endpoint.root}/apply-template", body, _ATTEMPTS), "prompt", str)
    # As its chat completions do: /apply-template has taken a BOS off where the tokenizer adds one.
    body = {"model": endpoint.model, "content": prompt, "add_special": True, "parse_special": True}
    return _ids(endpoint.ask(f"{endpoint.root}/tokenize", body, _ATTEMPTS))


def _vllm(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Told:
    # As its chat completions do by default: special tokens are the template's business.
    body = {
        "model": endpoint.model,
        "messages": messages,
        "add_generation_prompt": True,
        "add_special_tokens": False,
    }
    return _ids(endpoint.ask(f"{endpoint.root}/tokenize", body, _ATTEMPTS))


def _usage(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Told:
    body = {"model": endpoint.model, "messages": messages, "max_tokens": 1, "temperature": 0.0}
    usage = _field(endpoint.ask(f"{endpoint.api}/chat/completions", body, _ATTEMPTS), "usage", dict)
    count = usage.get("prompt_tokens")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise _NoPrompt(f"found usage {usage!r}, expected prompt_tokens")
    return int(count)


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
