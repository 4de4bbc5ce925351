"""Who acts in the worlds: a local model with or without an adapter, a model behind an endpoint, or a fixed script.

A `Player` makes one `SessionOperator` for each session. Sessions run side by side, each asks as soon as its last
command has answered, and whatever batches their requests (the engine of a local model, a server) does so behind
`answer`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from tiararodney.sekft.endpoint import EndpointDown
from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.eval.episodes import Generation, prompt_hash
from tiararodney.sekft.render import Message, render_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiararodney.sekft.endpoint import Endpoint
    from tiararodney.sekft.render import Tokenizer

    Messages = Sequence[Mapping[str, str]]


class NoAnswer(SekftError):
    """One request got no usable answer although the server lives: an infrastructure error of its session alone."""


@dataclass
class SessionOperator:
    """Acts in one session and keeps how each reply came about.

    Args:
        name: what the recorder calls it.
        answer: returns the reply to the messages so far, and its `Generation` (the turn is filled in here).
        generations: of the session so far.
    """

    name: str
    answer: Callable[[Messages], tuple[str, Generation]]
    generations: list[Generation] = field(default_factory=list)

    def reset(self) -> None:
        """Begin the session anew, after an infrastructure error."""
        self.generations.clear()

    def reply(self, messages: Messages) -> str:
        """Return the next assistant turn."""
        text, generation = self.answer(messages)
        self.generations.append(replace(generation, turn=len(messages)))
        return text


class Player(Protocol):
    """Whoever acts in many sessions at once."""

    def session(self, key: str) -> SessionOperator:
        """Return who acts in one session; the key (scenario and repeat) is what its samples are drawn by."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How replies are drawn.

    Args:
        max_new_tokens: limit of a reply, in tokens.
        temperature: 0 is greedy.
        seed: of the sampling.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class LocalPlayer:
    """A base model, with one of its adapters or without.

    Args:
        name: what the recorder calls it.
        generate: ``(prompt ids, key) -> (reply ids, whether a stop token ended it)``; called from many threads at once.
        tokenizer: renders, encodes and decodes.
        context: tokens that the model can hold.
        decoding: the limit of a reply.
    """

    name: str
    generate: Callable[[Sequence[int], str], tuple[Sequence[int], bool]]
    tokenizer: Tokenizer
    context: int
    decoding: Decoding

    def session(self, key: str) -> SessionOperator:
        """Return who acts in one session.

        A session whose prompt leaves no room for a reply gets an empty one, as from a server that refuses it.
        """

        def answer(messages: Messages) -> tuple[str, Generation]:
            ids = render_prompt(self.tokenizer, messages)
            note = Generation(0, prompt_hash(ids), len(ids), (), "context")
            if len(ids) + self.decoding.max_new_tokens > self.context:
                return "", note
            reply, stopped = self.generate(ids, key)
            return reply_text(self.tokenizer, reply), replace(
                note, reply_ids=tuple(reply), stop="end" if stopped else "length"
            )

        return SessionOperator(self.name, answer)


@dataclass(frozen=True)
class EndpointPlayer:
    """A model behind one or several OpenAI-compatible servers; a session stays with one of them.

    Args:
        name: what the recorder calls it.
        endpoints: the servers (replicas) and the model's name.
        decoding: limit, temperature and seed; servers may or may not heed the seed.
        tokenizer: renders prompts here, whose token ids are sent; None sends messages, which the server renders.
        heard: when a server answered last, by index (monotonic seconds).
        silent: replies without content, by the reason that the server gave.
    """

    name: str
    endpoints: Sequence[Endpoint]
    decoding: Decoding
    tokenizer: Tokenizer | None = None
    heard: dict[int, float] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)

    def session(self, key: str) -> SessionOperator:
        """Return who acts in one session."""
        index = sum(key.encode()) % len(self.endpoints)
        return SessionOperator(self.name, lambda messages: self._ask(index, messages))

    def _ask(self, index: int, messages: Messages) -> tuple[str, Generation]:
        endpoint, asked, d, ids = self.endpoints[index], time.monotonic(), self.decoding, []
        try:
            if self.tokenizer is None:
                done = endpoint.chat(messages, d.max_new_tokens, d.temperature, d.seed)
            else:
                ids = render_prompt(self.tokenizer, messages)
                done = endpoint.complete(ids, d.max_new_tokens, d.temperature, d.seed, stop_ids(self.tokenizer))
        except EndpointDown as error:
            # Others were answered meanwhile, or the list of models is: then this request alone has no answer.
            if self.heard.get(index, 0.0) < asked:
                _check_alive(endpoint, error)
            raise NoAnswer(str(error)) from error
        except RunFailed as error:
            raise NoAnswer(str(error)) from error
        self.heard[index] = time.monotonic()
        if not done.text.strip() and done.stop != "context":
            self.silent[done.why] = self.silent.get(done.why, 0) + 1
        text = reply_text(self.tokenizer, done.ids) if self.tokenizer is not None and done.ids else done.text
        return text, Generation(0, prompt_hash(ids) if ids else "", done.prompt_tokens, done.ids, done.stop)


def _check_alive(endpoint: Endpoint, error: EndpointDown) -> None:
    """End the run where the server answers nobody.

    Raises:
        RunFailed: it does not even list its models.
    """
    try:
        endpoint.check()
    except UsageError:
        raise RunFailed(f"{error} Start the server again; the same command resumes.") from error


@dataclass(frozen=True)
class ScriptedPlayer:
    """Gives the same replies in every session, the last one for ever.

    Args:
        name: what the recorder calls it.
        replies: at least one.
    """

    name: str
    replies: Sequence[str]

    def session(self, key: str) -> SessionOperator:
        """Return who acts in one session."""
        del key

        def answer(messages: Messages) -> tuple[str, Generation]:
            before = sum(m["role"] == "assistant" for m in messages)
            return self.replies[min(before, len(self.replies) - 1)], Generation(0)

        return SessionOperator(self.name, answer)


BASELINES: Mapping[str, Sequence[str]] = {
    "exit at once": ("exit",),
    "panic at once": ("panic the directive cannot be carried out",),
    "prose, then exit": ("Sure! I will take a look at the directives and do what they ask.", "exit"),
}
"""What doing nothing scores: operators that a rate has to be read against."""


def reply_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Decode a reply as a chat endpoint gives it back: without control tokens, otherwise as it is."""
    control = set(tokenizer.control_tokens.values())
    return tokenizer.decode([i for i in ids if i not in control])


def stop_ids(tokenizer: Tokenizer, eos: int | Sequence[int] | None = None) -> frozenset[int]:
    """Return the tokens that end a reply: the one the template writes after a reply, and the model's own.

    Args:
        tokenizer: with its chat template.
        eos: `eos_token_id` of the model's generation settings.

    Raises:
        UsageError: there is none, so no reply could ever end by itself.
    """
    found = {eos} if isinstance(eos, int) else set(eos or ())
    control = tokenizer.control_tokens
    if tokenizer.eos_token is not None and tokenizer.eos_token in control:
        found.add(control[tokenizer.eos_token])
    mark = "ls-xq"
    text = tokenizer.render_text([Message("user", "$ "), Message("assistant", mark)], add_generation_prompt=False)
    after = text[text.rindex(mark) + len(mark) :] if mark in text else ""
    first = tokenizer.encode(after.lstrip())[:1]
    found.update(i for i in first if i in set(control.values()))
    if not found:
        raise UsageError(
            "the base's chat template and configuration name no token that ends a reply. Add an eos_token."
        )
    return frozenset(found)
