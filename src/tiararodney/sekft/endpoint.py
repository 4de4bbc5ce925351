"""A server of OpenAI chat completions, asked through posix-sdc's HTTP client, whose errors go on as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import InfrastructureError, PosixSdcError
from tiararodney.posix_sdc.support import chat_completions, http_json
from tiararodney.posix_sdc.support.chat_completions import Completion, is_too_long
from tiararodney.posix_sdc.support.http_json import Refused, Unanswered, UnexpectedAnswer
from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "UNAUTHORIZED", "Completion", "Endpoint", "PosixSdcError", "Refused", "Unanswered", "UnexpectedAnswer",
    "is_too_long",
]  # fmt: skip

UNAUTHORIZED = frozenset({401, 403})


@dataclass(frozen=True)
class Endpoint(chat_completions.Endpoint):
    """A server and a model of it: posix-sdc's record, with what an evaluation asks besides."""

    flags: str = "--endpoint, --model"
    key_variable: str = "OPENAI_API_KEY"

    def chat(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float, seed: int) -> Completion:
        """Ask for one reply to a session, which is sent as it is: the server applies the model's template.

        Raises:
            Unanswered: no answer after all attempts.
            PosixSdcError: the server refuses the request, or answers with something else than a completion.
        """
        return chat_completions.chat(self, messages, max_tokens=max_tokens, temperature=temperature, seed=seed)

    def complete(
        self, prompt: Sequence[int], max_tokens: int, temperature: float, seed: int, stop_ids: Collection[int]
    ) -> Completion:
        """Ask for the continuation of token ids, through ``/v1/completions``; limit, temperature and seed as in `chat`.

        The server applies no template to the prompt. `stop_ids` end a reply; they are sent along, and are not in the
        ids that are returned.

        Raises:
            Unanswered: no answer after all attempts.
            PosixSdcError: the server refuses the request (it may take no token ids), or answers with something else.
        """
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "stop_token_ids": sorted(stop_ids),
            "return_token_ids": True,
        }
        try:
            answer = self.ask(f"{self.api}/completions", body)
            choice = answer["choices"][0]
            text, reason, ids = str(choice["text"]), choice.get("finish_reason"), choice.get("token_ids") or ()
            told = tuple(int(i) for i in ids)
        except Refused as error:
            if is_too_long(error):
                return Completion("", chat_completions.CONTEXT, prompt_tokens=len(prompt))
            raise
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise UnexpectedAnswer(
                f"{self.url}: found {str(answer)[:200]}, expected a completion (choices[0].text)"
            ) from None
        if told and told[-1] in stop_ids:
            told = told[:-1]
        return Completion(text, str(reason or ""), prompt_tokens=len(prompt), ids=told)

    def check(self) -> None:
        """Ask once which models there are, so that a wrong URL or name is told before any world is made.

        Raises:
            UsageError: nothing answers there, the key is refused, or the server does not know the model.
        """
        if not http_json.is_url(self.url):
            raise UsageError(f"--endpoint: found {self.url!r}, expected a URL such as http://127.0.0.1:8000/v1.")
        try:
            names = chat_completions.served_models(self)
        except Refused as error:
            if error.status in UNAUTHORIZED:
                raise self.unauthorized(error) from None
            return  # a server without /models may still complete chats
        except UnexpectedAnswer:
            return
        except InfrastructureError as error:
            raise UsageError(f"--endpoint {error}. Start the server, or correct the URL.") from None
        if names and self.model not in names:
            raise UsageError(f"--model {self.model}: the endpoint serves {', '.join(names)}. Give one of these.")

    def unauthorized(self, refused: Refused) -> UsageError:
        """Return what to tell a user whose key the server does not take (a status of `UNAUTHORIZED`)."""
        return UsageError(f"--endpoint {refused} Set the variable of --api-key-env.")

    @property
    def root(self) -> str:
        """Where servers have the routes of their own: the URL without its version."""
        return self.api.removesuffix("/v1")

    def ask(self, url: str, body: Mapping[str, Any] | None, attempts: int = http_json.ATTEMPTS) -> Any:
        """Send JSON (or ask for it, where there is no body) and return what comes back; see `http_json.ask`."""
        return http_json.ask(url, body, key=self.key, timeout=self.timeout, attempts=attempts)
