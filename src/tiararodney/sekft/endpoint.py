"""A client of OpenAI chat completions and other JSON over HTTP, from the standard library."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tiararodney.sekft.errors import RunFailed, SekftError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds; doubled before every further attempt
LONGEST_PAUSE = 30.0  # seconds; also the most that a server's Retry-After may ask for
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_REFUSALS = frozenset({400, 413, 422})
UNAUTHORIZED = frozenset({401, 403})
_SHOWN = 300
_LARGEST = 1 << 26
"""Bytes of an answer that are read; no tokenized prompt comes near."""
_PIECE = 1 << 16


class Refused(SekftError):
    """An HTTP status that no second attempt changes.

    Args:
        status: the status.
        text: the beginning of what the server said.
        reason: the status in words.
    """

    def __init__(self, status: int, text: str, reason: str = "") -> None:
        self.status, self.text = status, text
        super().__init__(f"HTTP {status} {reason}: {text}".strip().rstrip(":"))


class EndpointDown(SekftError):
    """The server did not answer after all attempts: a fault of ours, not the model's.

    Args:
        message: what was tried.
        refused: the status it answered with the last time, None where it did not answer.
    """

    def __init__(self, message: str, refused: Refused | None = None) -> None:
        self.refused = refused
        super().__init__(message)


class NotJson(RunFailed):
    """The answer is no JSON."""


@dataclass(frozen=True)
class Completion:
    """One reply of an endpoint.

    Args:
        text: the assistant's content, empty where the server sent none.
        stop: ``end``, ``length`` or ``context``, as in `episodes.Generation`.
        prompt_tokens: as the server counts them, 0 where it does not say.
        why: the server's ``finish_reason``, and what it sent in place of content (tool calls, reasoning).
    """

    text: str
    stop: str
    prompt_tokens: int = 0
    why: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A server and a model of it.

    Args:
        url: with its version, ``http://127.0.0.1:8000/v1``.
        model: the name under which the server knows the model.
        api_key: sent as a bearer token, nothing where it is empty.
        seconds: time that one request may take.
    """

    url: str
    model: str
    api_key: str = ""
    seconds: float = 120.0

    def chat(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float, seed: int) -> Completion:
        """Ask for one reply.

        Args:
            messages: the session so far, sent as it is; the server applies the model's template.
            max_tokens: the limit of the reply.
            temperature: 0 is greedy.
            seed: of the sampling, for servers that heed it.

        Raises:
            EndpointDown: no answer after all attempts.
            RunFailed: the server refuses the request, or answers with something else than a completion.
        """
        body = {
            "model": self.model,
            "messages": [{"role": m["role"], "content": m["content"]} for m in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        try:
            answer = self.ask(self.api + "/chat/completions", body)
        except Refused as refused:
            # Servers word it differently ("maximum context length", "context_length_exceeded"); all name the context.
            if refused.status in _REFUSALS and "context" in refused.text.lower():
                return Completion("", "context")
            raise RunFailed(f"--endpoint {self.url}: {refused}") from None
        completion = _completion(answer)
        if completion is None:
            shown = json.dumps(answer)[:_SHOWN]
            raise RunFailed(
                f"--endpoint {self.url}: found {shown}, expected a chat completion with choices[0].message.content."
            )
        return completion

    def check(self) -> None:
        """Ask once which models there are, so that a wrong URL or name is told before any world is made.

        Raises:
            UsageError: nothing answers there, the key is refused, or the server does not know the model.
        """
        try:
            answer = self.ask(self.api + "/models", None, attempts=1)
        except EndpointDown as error:
            raise UsageError(f"{error} Start the server, or correct the URL.") from None
        except Refused as refused:
            if refused.status in UNAUTHORIZED:
                raise self.unauthorized(refused) from None
            return  # a server without /models may still complete chats
        try:
            # llama.cpp takes the names of --alias: one is the id, and the others stand beside it.
            names = [str(n) for m in answer["data"] for n in dict.fromkeys([m["id"], *m.get("aliases", ())])]
        except (KeyError, TypeError, AttributeError):
            return
        if names and self.model not in names:
            raise UsageError(f"--model {self.model}: the endpoint serves {', '.join(names)}. Give one of these.")

    def unauthorized(self, refused: Refused) -> UsageError:
        """Return what to tell a user whose key the server does not take (a status of `UNAUTHORIZED`)."""
        return UsageError(f"--endpoint {self.url}: {refused}. Set the variable of --api-key-env.")

    @property
    def api(self) -> str:
        """Where the OpenAI routes are."""
        return self.url.rstrip("/").removesuffix("/chat/completions")

    @property
    def root(self) -> str:
        """Where servers have the routes of their own: the URL without its version."""
        return self.api.removesuffix("/v1")

    def ask(self, url: str, body: Mapping[str, Any] | None, attempts: int = ATTEMPTS) -> Any:
        """Send JSON (or ask for it, where there is no body) and return the JSON that comes back.

        Raises:
            EndpointDown: no answer after all attempts.
            Refused: the server answers with a status that stays.
            NotJson: the answer is something else.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "sekft"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)  # noqa: S310 - the flags let http and https pass only
        pause, last = FIRST_PAUSE, None
        for attempt in range(1, attempts + 1):
            try:
                deadline = time.monotonic() + self.seconds
                with _opener(url).open(request, timeout=self.seconds) as response:
                    return json.loads(_read(response, deadline))
            except urllib.error.HTTPError as error:
                last, asked = Refused(error.code, _told(error), error.reason), error.headers.get("Retry-After", "")
                if error.code not in _TRANSIENT:
                    raise last from None
                why = str(last)
                if asked.isdecimal():
                    pause = max(pause, float(asked))
            except (OSError, http.client.HTTPException) as error:
                last, why = None, str(getattr(error, "reason", error)) or type(error).__name__
            except (ValueError, RecursionError):
                raise NotJson(
                    f"--endpoint {url}: the answer is no JSON. Is this an OpenAI-compatible server?"
                ) from None
            if attempt < attempts:
                time.sleep(min(pause, LONGEST_PAUSE))
                pause *= 2
        tries = f"{attempts} attempts" if attempts > 1 else "the first attempt"
        raise EndpointDown(f"--endpoint {url}: no answer after {tries} ({why}).", last)


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Read an answer whole; one that never ends is given up (a timeout of the socket alone lets it drip on)."""
    pieces, size = [], 0
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST:
            raise OSError(f"an answer over {_LARGEST} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    return b"".join(pieces)


def _told(error: urllib.error.HTTPError) -> str:
    """Return the beginning of what a server says to an error."""
    try:
        return error.read(_PIECE).decode("utf-8", "replace")[:_SHOWN]
    except (OSError, http.client.HTTPException):
        return ""


def _completion(answer: Any) -> Completion | None:
    """Read an answer, None where it is no chat completion."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        other = [name for name in ("tool_calls", "reasoning", "reasoning_content", "refusal") if message.get(name)]
        why = " with ".join([f"finish_reason {choice.get('finish_reason')}", *other])
        stop = "length" if choice.get("finish_reason") == "length" else "end"
        tokens = int((answer.get("usage") or {}).get("prompt_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return Completion(text, stop, tokens, why) if isinstance(text, str) else None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return an opener; a proxy of the environment is not asked for hosts on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def check_url(url: str) -> str:
    """Return a URL that can be asked.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--endpoint: found {url!r}, expected a URL such as http://127.0.0.1:8000/v1.")
    return url


def endpoint_key(variable: str) -> str:
    """Return the key that an environment variable holds, empty where it is not set."""
    return os.environ.get(variable, "")
