"""A server of OpenAI chat completions, asked through posix-sdc's HTTP client, with its errors as ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc import errors as theirs
from tiararodney.posix_sdc.support import chat_completions, http_json
from tiararodney.sekft.errors import RunFailed, SekftError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

KEY_VARIABLE = "OPENAI_API_KEY"
UNAUTHORIZED = frozenset({401, 403})
_TOO_LONG = frozenset({400, 413, 422})
_STOPS = {"length": "length", chat_completions.CONTEXT: "context"}


class Refused(SekftError):
    """An HTTP status that no second attempt changes.

    Args:
        status: the status.
        text: the beginning of what the server said.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(f"HTTP {status} {text}".strip())


class EndpointDown(RunFailed):
    """The server did not answer after all attempts: an infrastructure error, not the model's failure.

    Args:
        message: what was tried.
        refused: the status it answered with the last time, None where it did not answer.
    """

    def __init__(self, message: str, refused: Refused | None = None) -> None:
        self.refused = refused
        super().__init__(message)


class UnexpectedAnswer(RunFailed):
    """The answer is no JSON, or no chat completion."""


@dataclass(frozen=True)
class Completion:
    """One reply of an endpoint.

    Args:
        text: the assistant's content, empty where the server sent none.
        stop: ``end``, ``length`` or ``context``, as in `episodes.Generation`.
        prompt_tokens: as the server counts them, 0 where it does not say.
        why: for a reply without content, the server's ``finish_reason`` and what it sent in place of content.
        ids: the reply's token ids without the stop token, where the server tells them.
    """

    text: str
    stop: str
    prompt_tokens: int = 0
    why: str = ""
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """A server and a model of it.

    Args:
        url: with its version, ``http://127.0.0.1:8000/v1``.
        model: the name under which the server knows the model.
        key_variable: environment variable whose value is sent as a bearer token; nothing is sent where it is empty.
        seconds: time that one request may take.
    """

    url: str
    model: str
    key_variable: str = KEY_VARIABLE
    seconds: float = 120.0
    _client: chat_completions.Endpoint = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        client = chat_completions.Endpoint(
            self.url,
            self.model,
            timeout=self.seconds,
            flags="--endpoint, --model",
            key_variable=self.key_variable,
        )
        # One for all requests: it remembers which parameters the server refuses.
        object.__setattr__(self, "_client", client)

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
        plain = [{"role": m["role"], "content": m["content"]} for m in messages]
        try:
            done = chat_completions.chat(self._client, plain, max_tokens=max_tokens, temperature=temperature, seed=seed)
        except http_json.Unanswered as error:
            raise _down(error) from None
        except theirs.PosixSdcError as error:
            raise RunFailed(f"--endpoint {error}") from None
        return Completion(done.text, _STOPS.get(done.finish_reason, "end"), done.prompt_tokens, done.without_content)

    def complete(
        self, prompt: Sequence[int], max_tokens: int, temperature: float, seed: int, stop_ids: Collection[int]
    ) -> Completion:
        """Ask for the continuation of token ids, through ``/v1/completions``.

        Args:
            prompt: what stands before the model, to the token; the server applies no template.
            max_tokens: the limit of the reply.
            temperature: 0 is greedy.
            seed: of the sampling, for servers that heed it.
            stop_ids: tokens that end a reply; sent along, and cut off ids that are told.

        Raises:
            EndpointDown: no answer after all attempts.
            RunFailed: the server refuses the request (it may take no token ids), or answers with something else.
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
        except Refused as error:
            if error.status in _TOO_LONG and "context" in error.text.lower():
                return Completion("", "context", len(prompt))
            raise RunFailed(f"--endpoint {self.url}: {error}") from None
        try:
            choice = answer["choices"][0]
            text, reason, ids = str(choice["text"]), choice.get("finish_reason"), choice.get("token_ids") or ()
            told = tuple(int(i) for i in ids)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise UnexpectedAnswer(
                f"--endpoint {self.url}: found {str(answer)[:200]}, expected a completion (choices[0].text)."
            ) from None
        if told and told[-1] in stop_ids:
            told = told[:-1]
        why = "" if text.strip() else f"no content (finish_reason {reason})"
        return Completion(text, "length" if reason == "length" else "end", len(prompt), why, told)

    def check(self) -> None:
        """Ask once which models there are, so that a wrong URL or name is told before any world is made.

        Raises:
            UsageError: nothing answers there, the key is refused, or the server does not know the model.
        """
        try:
            names = chat_completions.served_models(self._client)
        except http_json.Refused as error:
            if error.status in UNAUTHORIZED:
                raise self.unauthorized(Refused(error.status, error.text)) from None
            return  # a server without /models may still complete chats
        except http_json.UnexpectedAnswer:
            return
        except theirs.InfrastructureError as error:
            raise UsageError(f"--endpoint {error}. Start the server, or correct the URL.") from None
        if names and self.model not in names:
            raise UsageError(f"--model {self.model}: the endpoint serves {', '.join(names)}. Give one of these.")

    def unauthorized(self, refused: Refused) -> UsageError:
        """Return what to tell a user whose key the server does not take (a status of `UNAUTHORIZED`)."""
        return UsageError(f"--endpoint {self.url}: {refused}. Set the variable of --api-key-env.")

    @property
    def api(self) -> str:
        """Where the OpenAI routes are."""
        return self._client.api

    @property
    def root(self) -> str:
        """Where servers have the routes of their own: the URL without its version."""
        return self.api.removesuffix("/v1")

    def ask(self, url: str, body: Mapping[str, Any] | None, attempts: int = http_json.ATTEMPTS) -> Any:
        """Send JSON (or ask for it, where there is no body) and return the JSON that comes back.

        Raises:
            EndpointDown: no answer after all attempts.
            Refused: the server answers with a status that stays.
            UnexpectedAnswer: the answer is no JSON.
        """
        try:
            return http_json.ask(url, body, key=self._client.key, timeout=self.seconds, attempts=attempts)
        except http_json.Refused as error:
            raise Refused(error.status, error.text) from None
        except http_json.Unanswered as error:
            raise _down(error) from None
        except http_json.UnexpectedAnswer as error:
            raise UnexpectedAnswer(f"--endpoint {error}. Is this an OpenAI-compatible server?") from None
        except theirs.UsageError as error:
            raise UsageError(f"--endpoint {error}") from None


def _down(error: http_json.Unanswered) -> EndpointDown:
    return EndpointDown(f"--endpoint {error}.", Refused(error.status, str(error)) if error.status else None)


def check_url(url: str) -> str:
    """Return a URL that can be asked.

    Raises:
        UsageError: it is none.
    """
    if not chat_completions.is_url(url):
        raise UsageError(f"--endpoint: found {url!r}, expected a URL such as http://127.0.0.1:8000/v1.")
    return url
