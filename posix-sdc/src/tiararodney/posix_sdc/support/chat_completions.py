"""OpenAI-compatible chat completions: one request, retried, bounded in size and time."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API_KEY = "POSIX_SDC_API_KEY"
ANSWER_BYTES = 4 * 1024**2  # of one answer; whoever sends more is no chat-completions endpoint

_RETRIED = (408, 409, 425, 429)
_SERVER_ERROR = 500
_PIECE = 65536
_SHOWN = 200
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked, and how.

    Args:
        url: of the API, with or without ``/chat/completions`` (``http://localhost:8000/v1``).
        model: the name the endpoint serves it under.
        temperature: of its sampling.
        max_tokens: of one reply.
        timeout: of one request, in seconds.
        attempts: how often a request that failed on the way is sent.
        flags: the command line's flags that name it, for messages.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 256
    timeout: float = 120.0
    attempts: int = 3
    flags: str = "--operator, --model"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the key is for the address that the user named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return nothing, which makes a redirect an error."""


def complete(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> str:
    """Return the model's reply to a conversation, as it stands.

    Args:
        endpoint: whom to ask. A key in the environment variable `API_KEY` is sent along.
        messages: ``{role, content}`` each.

    Raises:
        UsageError: the endpoint refuses the request for good (wrong address, model or key).
        InfrastructureError: it cannot be reached, fails, or answers with something that is no chat completion.
    """
    body = {
        "model": endpoint.model,
        "messages": [dict(m) for m in messages],
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
    }
    answer = _ask(endpoint, json.dumps(body).encode())
    try:
        return str(json.loads(answer)["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise InfrastructureError(
            f"{endpoint.url}: found {answer[:_SHOWN]!r}, expected a chat completion (choices[0].message.content)"
        ) from None


def _ask(endpoint: Endpoint, body: bytes) -> bytes:
    url = endpoint.url.rstrip("/")
    url += "" if url.endswith("/chat/completions") else "/chat/completions"
    headers = {"Content-Type": "application/json"}
    if os.environ.get(API_KEY):
        headers["Authorization"] = f"Bearer {os.environ[API_KEY]}"
    opener = urllib.request.build_opener(_NoRedirect)
    fault, pause = "", 0.0
    for attempt in range(endpoint.attempts):
        if attempt:
            time.sleep(max(pause, 2.0**attempt / 4))
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - `is_url` takes http and https only
        try:
            with opener.open(request, timeout=endpoint.timeout) as response:
                return _read(endpoint, response)
        except urllib.error.HTTPError as error:
            fault, pause = f"HTTP {error.code} {_text(error)}", _pause(error)
            if error.code < _SERVER_ERROR and error.code not in _RETRIED:
                hint = f"Check {endpoint.flags} and the key in {API_KEY}."
                raise UsageError(f"{url}: found {fault}, expected a chat completion. {hint}") from None
        except (OSError, http.client.HTTPException) as error:
            fault = str(getattr(error, "reason", "") or error) or type(error).__name__
    raise InfrastructureError(f"{url}: no answer in {endpoint.attempts} attempts ({fault})")


def _read(endpoint: Endpoint, response: Any) -> bytes:
    """Read an answer to its end, which has to come in time and within bounds."""
    deadline = time.monotonic() + endpoint.timeout
    data = bytearray()
    while piece := response.read1(_PIECE):
        data += piece
        if len(data) > ANSWER_BYTES:
            raise InfrastructureError(f"{endpoint.url}: found an answer of more than {ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer took more than {endpoint.timeout:g} s")
    return bytes(data)


def _pause(error: urllib.error.HTTPError) -> float:
    """Return how long the server asks us to wait, in seconds, within reason."""
    asked = error.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_PAUSE) if asked.isdigit() else 0.0


def _text(error: urllib.error.HTTPError) -> str:
    return " ".join(error.read(_SHOWN).decode("utf-8", "replace").split())


def is_url(text: str) -> bool:
    """Tell whether a text is an address that can be asked."""
    return text.startswith(("http://", "https://"))
