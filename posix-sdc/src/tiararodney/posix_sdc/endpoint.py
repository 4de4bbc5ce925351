"""An operator behind an OpenAI-compatible endpoint. It is told how to act by a scaffold that no record holds."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.rollout import Message

API_KEY = "POSIX_SDC_API_KEY"

SCAFFOLD = """\
You are at a terminal. Whatever you reply is typed into the shell as it stands, so reply with one command and nothing \
else: no explanation, no code fence, no prompt sign.
Somewhere it is announced which program holds your directives: in what login prints, in a file here, or in the \
environment. Read that program's documentation, get the directives from it, do what they say, check your work, and \
then reply exit. Reply panic REASON only if a directive cannot be carried out: something it needs is missing, not \
permitted or broken, or it contradicts itself. Never make up what is missing."""

_FENCED = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_RETRIED = (408, 409, 425, 429)
_SERVER_ERROR = 500
_SHOWN = 200


@dataclass(frozen=True)
class EndpointOperator:
    """A model that is asked over chat completions.

    Args:
        url: of the API, with or without ``/chat/completions`` (``http://localhost:8000/v1``).
        model: the name the endpoint serves it under.
        temperature: of its sampling.
        max_tokens: of one reply.
        timeout: of one request, in seconds.
        attempts: how often a request that failed on the way is sent.
        scaffold: what the model is told besides the session; never recorded.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 256
    timeout: float = 120.0
    attempts: int = 3
    scaffold: str = SCAFFOLD

    @property
    def name(self) -> str:
        """What records call it."""
        return self.model

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the model's next command.

        Raises:
            UsageError: the endpoint refuses the request for good (wrong address, model or key).
            InfrastructureError: it cannot be reached, fails, or answers with something that is no chat completion.
        """
        told = [dict(m) for m in messages]
        if self.scaffold:
            told[0] = {"role": "system", "content": f"{self.scaffold}\n\n{told[0]['content']}"}
        body = {"model": self.model, "messages": told, "temperature": self.temperature, "max_tokens": self.max_tokens}
        answer = self._ask(json.dumps(body).encode())
        try:
            content = json.loads(answer)["choices"][0]["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError):
            raise InfrastructureError(
                f"{self.url}: found {answer[:_SHOWN]!r}, expected a chat completion (choices[0].message.content)"
            ) from None
        return bare(str(content))

    def _ask(self, body: bytes) -> bytes:
        url = self.url.rstrip("/")
        url += "" if url.endswith("/chat/completions") else "/chat/completions"
        headers = {"Content-Type": "application/json"}
        if os.environ.get(API_KEY):
            headers["Authorization"] = f"Bearer {os.environ[API_KEY]}"
        fault = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(2.0**attempt / 4)
            request = urllib.request.Request(url, body, headers)  # noqa: S310 - the CLI takes http and https only
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:  # noqa: S310 - the same
                    found: bytes = response.read()
                    return found
            except urllib.error.HTTPError as error:
                fault = f"HTTP {error.code} {_text(error)}"
                if error.code < _SERVER_ERROR and error.code not in _RETRIED:
                    hint = f"Check --operator, --model and the key in {API_KEY}."
                    raise UsageError(f"{url}: found {fault}, expected a chat completion. {hint}") from None
            except (OSError, http.client.HTTPException) as error:
                fault = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise InfrastructureError(f"{url}: no answer in {self.attempts} attempts ({fault})")


def _text(error: Any) -> str:
    return " ".join(error.read(_SHOWN).decode("utf-8", "replace").split())


def bare(reply: str) -> str:
    """Return a reply without what the scaffold's models put around a command: one fence, a prompt sign, blank lines."""
    fenced = _FENCED.match(reply)
    text = (fenced.group(1) if fenced else reply).strip("\n").rstrip()
    return text.removeprefix("$ ")
