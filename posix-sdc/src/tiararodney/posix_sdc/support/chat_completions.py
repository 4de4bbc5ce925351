"""OpenAI-compatible chat completions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.support.http_json import ATTEMPTS, Refused, UnexpectedAnswer, ask, is_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["API_KEY", "Completion", "Endpoint", "chat", "is_too_long", "is_url", "served_models"]

API_KEY = "POSIX_SDC_API_KEY"
CONTEXT = "context"  # the finish_reason of a conversation that the server refuses as too long
_BAD_REQUEST, _TOO_LARGE, _UNPROCESSABLE = 400, 413, 422
# What some servers refuse, and what is sent to them in its place.
_INSTEAD = {"max_tokens": "max_completion_tokens", "seed": "", "temperature": ""}
_SHOWN = 200


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and its parameters.

    Args:
        url: of the API, with or without ``/chat/completions`` (``http://localhost:8000/v1``).
        model: the name the endpoint serves it under.
        temperature: of its sampling.
        max_tokens: of one reply.
        timeout: of one request, in seconds.
        attempts: how often a request that failed on the way is sent.
        flags: the command line's flags that name it, for messages.
        key_variable: the environment variable that holds the key.
        refused: parameters that the server was found to refuse; filled while it is used.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 256
    timeout: float = 120.0
    attempts: int = ATTEMPTS
    flags: str = "--operator, --model"
    key_variable: str = API_KEY
    refused: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def api(self) -> str:
        """Base URL of the API."""
        return self.url.rstrip("/").removesuffix("/chat/completions")

    @property
    def key(self) -> str:
        """The API key, empty if there is none."""
        return os.environ.get(self.key_variable, "")


@dataclass(frozen=True)
class Completion:
    """One reply.

    Args:
        text: the message's content, empty where the server sent none.
        finish_reason: as the server says it; `CONTEXT` where it refused the conversation as too long.
        hidden: what came in place of content: ``reasoning``, ``tool_calls``, ``refusal``; empty where nothing did.
        prompt_tokens: as the server counts them, 0 where it does not say.
        completion_tokens: the same of the reply.
        ids: the reply's token ids without the one that ends it, where it was asked for by token ids and they are told.
    """

    text: str
    finish_reason: str = ""
    hidden: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ids: tuple[int, ...] = ()

    @property
    def without_content(self) -> str:
        """Describe a reply without content by what it has instead; empty if there is content."""
        if self.text.strip():
            return ""
        hidden = f", {self.hidden} present" if self.hidden else ""
        return f"no content (finish_reason {self.finish_reason or 'missing'}{hidden})"


def chat(endpoint: Endpoint, messages: Sequence[Mapping[str, str]], **parameters: Any) -> Completion:
    """Return the model's reply to a conversation.

    A server that refuses `max_tokens` is asked with `max_completion_tokens`, one that refuses `seed` or `temperature`
    without them.

    Args:
        endpoint: whom to ask. A key in its environment variable is sent along.
        messages: ``{role, content}`` each.
        parameters: of the request, over the endpoint's own (``seed=1``).

    Raises:
        UsageError: the endpoint refuses the request for good (wrong address, model or key).
        InfrastructureError: it cannot be reached, fails, or answers with something that is no chat completion.
    """
    asked = {"temperature": endpoint.temperature, "max_tokens": endpoint.max_tokens} | parameters
    while True:
        sent = {_INSTEAD[k] if k in endpoint.refused else k: v for k, v in asked.items()}
        sent.pop("", None)
        body = {"model": endpoint.model, "messages": [dict(m) for m in messages], **sent}
        try:
            answer = ask(
                f"{endpoint.api}/chat/completions",
                body,
                key=endpoint.key,
                timeout=endpoint.timeout,
                attempts=endpoint.attempts,
            )
        except Refused as error:
            unsupported = _unsupported(error, set(sent) & set(_INSTEAD))
            if unsupported:
                endpoint.refused.add(unsupported)
                continue
            if is_too_long(error):
                return Completion("", CONTEXT)
            raise UsageError(f"{error} Check {endpoint.flags} and the key in {endpoint.key_variable}.") from None
        return _completion(endpoint, answer)


def is_too_long(error: Refused) -> bool:
    """Tell whether a server refuses a request as longer than its context; all name it, or say that it is too long."""
    says = any(words in error.text.lower() for words in ("context", "too long"))
    return says and error.status in (_BAD_REQUEST, _TOO_LARGE, _UNPROCESSABLE)


def _unsupported(error: Refused, sent: set[str]) -> str:
    """Return the optional parameter that a server refuses, empty if there is none."""
    text = error.text.lower()
    if error.status not in (_BAD_REQUEST, _UNPROCESSABLE) or "support" not in text:
        return ""
    return next((name for name in sorted(sent) if f"'{name}'" in text or f"{name} " in text), "")


def _completion(endpoint: Endpoint, answer: Any) -> Completion:
    try:
        choice = answer["choices"][0]
        message, usage = choice["message"], answer.get("usage") or {}
        content = message.get("content")
        text = content if isinstance(content, str) else _joined(content or [])
        hidden = [
            name
            for name, keys in (
                ("reasoning", ("reasoning_content", "reasoning")),
                ("tool_calls", ("tool_calls",)),
                ("refusal", ("refusal",)),
            )
            if any(message.get(key) for key in keys)
        ]
        return Completion(
            text,
            str(choice.get("finish_reason") or ""),
            " and ".join(hidden),
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        shown = repr(answer)[:_SHOWN]
        raise UnexpectedAnswer(
            f"{endpoint.url}: found {shown}, expected a chat completion (choices[0].message.content)"
        ) from None


def _joined(parts: Any) -> str:
    """Return the text of a content that comes as a list of parts."""
    return "".join(part["text"] for part in parts if part.get("type", "text") == "text")


def served_models(endpoint: Endpoint) -> list[str]:
    """Return the names of the models that the endpoint serves, empty where it does not say.

    Raises:
        Refused: the key is refused (status 401 or 403), or the route is missing.
        InfrastructureError: nothing answers.
    """
    answer = ask(f"{endpoint.api}/models", key=endpoint.key, timeout=endpoint.timeout, attempts=1)
    try:
        # llama.cpp takes the names of --alias: one is the id, and the others stand beside it.
        return [str(n) for m in answer["data"] for n in dict.fromkeys([m["id"], *m.get("aliases", ())])]
    except (KeyError, TypeError, AttributeError):
        return []
