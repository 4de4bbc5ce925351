"""A client of OpenAI chat completions, from the standard library: structured messages out, one reply back."""

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
_SHOWN = 300


class EndpointDown(SekftError):
    """The server did not answer after all attempts: a fault of ours, not the model's."""


@dataclass(frozen=True)
class Completion:
    """One reply of an endpoint.

    Args:
        text: the assistant's content, empty where the server sent none.
        stop: ``end``, ``length`` or ``context``, as in `episodes.Generation`.
        prompt_tokens: as the server counts them, 0 where it does not say.
    """

    text: str
    stop: str
    prompt_tokens: int = 0


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
            answer = self._request("/chat/completions", body)
        except _Refused as refused:
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
            answer = self._request("/models", None, attempts=1)
        except EndpointDown as error:
            raise UsageError(f"{error} Start the server, or correct the URL.") from None
        except _Refused as refused:
            if refused.status in (401, 403):
                raise UsageError(f"--endpoint {self.url}: {refused}. Set the variable of --api-key-env.") from None
            return  # a server without /models may still complete chats
        try:
            names = [str(m["id"]) for m in answer["data"]]
        except (KeyError, TypeError):
            return
        if names and self.model not in names:
            raise UsageError(f"--model {self.model}: the endpoint serves {', '.join(names)}. Give one of these.")

    def _request(self, path: str, body: Mapping[str, Any] | None, attempts: int = ATTEMPTS) -> Any:
        url = self.url.rstrip("/").removesuffix("/chat/completions") + path
        headers = {"Content-Type": "application/json", "User-Agent": "sekft-eval"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)  # noqa: S310 - config.check lets http and https pass only
        pause = FIRST_PAUSE
        for attempt in range(1, attempts + 1):
            try:
                with _opener(url).open(request, timeout=self.seconds) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                reason, asked = _Refused(error), error.headers.get("Retry-After", "")
                if error.code not in _TRANSIENT:
                    raise reason from None
                why = str(reason)
                if asked.isdecimal():
                    pause = max(pause, float(asked))
            except (OSError, http.client.HTTPException) as error:
                why = str(getattr(error, "reason", error)) or type(error).__name__
            except ValueError:
                raise RunFailed(
                    f"--endpoint {url}: the answer is no JSON. Is this an OpenAI-compatible server?"
                ) from None
            if attempt < attempts:
                time.sleep(min(pause, LONGEST_PAUSE))
                pause *= 2
        tries = f"{attempts} attempts" if attempts > 1 else "the first attempt"
        raise EndpointDown(f"--endpoint {url}: no answer after {tries} ({why}).")


def _completion(answer: Any) -> Completion | None:
    """Read an answer, None where it is no chat completion."""
    try:
        choice = answer["choices"][0]
        text = choice["message"].get("content") or ""
        stop = "length" if choice.get("finish_reason") == "length" else "end"
        tokens = int((answer.get("usage") or {}).get("prompt_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return Completion(text, stop, tokens) if isinstance(text, str) else None


class _Refused(Exception):
    """An HTTP status that no second attempt changes."""

    def __init__(self, error: urllib.error.HTTPError) -> None:
        self.status = error.code
        self.text = error.read().decode("utf-8", "replace")[:_SHOWN]
        super().__init__(f"HTTP {error.code} {error.reason}: {self.text}".strip().rstrip(":"))


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return an opener; a proxy of the environment is not asked for hosts on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def endpoint_key(variable: str) -> str:
    """Return the key that an environment variable holds, empty where it is not set."""
    return os.environ.get(variable, "")
