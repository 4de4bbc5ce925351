"""Who acts in the worlds: a local model with or without an adapter, or a model behind an endpoint.

A `Player` makes one operator for each session. Sessions run side by side, each asks as soon as its last command has
answered, and whatever batches their requests (the engine of a local model, a server) does so behind `answer`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, PosixSdcError
from tiararodney.sekft.endpoint import Unanswered
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.eval.episodes import Generation, prompt_hash
from tiararodney.sekft.render import Message, render_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiararodney.posix_sdc.rollout import Operator
    from tiararodney.posix_sdc.schema import Scenario
    from tiararodney.sekft.endpoint import Endpoint
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.render import Tokenizer

    Messages = Sequence[Mapping[str, str]]
    Player = Callable[[Scenario, int], Operator]  # called in the session's thread, with the sample's number


@dataclass
class SessionOperator:
    """Acts in one session, as posix-sdc's operators do, and keeps how each reply came about.

    Args:
        answer: returns the reply to the messages so far, and its `Generation` (the turn is filled in here).
        generations: of the session so far.
    """

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


def session_key(scenario: Scenario, sample: int) -> str:
    """Return what a session's samples are drawn by: the same for every contestant, so that pairs share their seeds."""
    return f"{scenario.id}/{sample}"


@dataclass(frozen=True)
class LocalPlayer:
    """A base model, with one of its adapters or without.

    Args:
        generate: ``(prompt ids, key) -> (reply ids, whether a stop token ended it)``; called from many threads at once.
        tokenizer: renders, encodes and decodes.
        context: tokens that the model can hold, None for any number.
        max_new_tokens: the limit of a reply.
    """

    generate: Callable[[Sequence[int], str], tuple[Sequence[int], bool]]
    tokenizer: Tokenizer
    context: int | None
    max_new_tokens: int

    def __call__(self, scenario: Scenario, sample: int) -> SessionOperator:
        """Return who acts in one session.

        A session whose prompt leaves no room for a reply gets an empty one, as from a server that refuses it.
        """
        key = session_key(scenario, sample)

        def answer(messages: Messages) -> tuple[str, Generation]:
            ids = render_prompt(self.tokenizer, messages)
            note = Generation(0, prompt_hash(ids), len(ids), (), "context")
            if self.context is not None and len(ids) + self.max_new_tokens > self.context:
                return "", note
            reply, stopped = self.generate(ids, key)
            return reply_text(self.tokenizer, reply), replace(
                note, reply_ids=tuple(reply), stop="end" if stopped else "length"
            )

        return SessionOperator(answer)


@dataclass(frozen=True)
class EndpointPlayer:
    """A model behind one or several OpenAI-compatible servers; a session stays with one of them.

    Args:
        name: the contestant's.
        endpoints: the servers (replicas) and the model's name.
        config: limit, temperature and seed of replies; servers may or may not heed the seed.
        tokenizer: renders prompts here, whose token ids are sent; None sends messages, which the server renders.
        heard: when a server answered last, by index (monotonic seconds).
        silent: replies without content, by the reason that the server gave.
    """

    name: str
    endpoints: Sequence[Endpoint]
    config: EvalConfig
    tokenizer: Tokenizer | None = None
    heard: dict[int, float] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)

    def __call__(self, scenario: Scenario, sample: int) -> SessionOperator:
        """Return who acts in one session."""
        key = session_key(scenario, sample)
        index = sum(key.encode()) % len(self.endpoints)
        # One seed for all would give sessions with the same prompt the same reply.
        seed = int.from_bytes(sha256(f"{self.config.seed}/{key}".encode()).digest()[:4]) >> 1
        return SessionOperator(lambda messages: self._ask(index, seed, messages))

    def _ask(self, index: int, seed: int, messages: Messages) -> tuple[str, Generation]:
        endpoint, asked, c, ids = self.endpoints[index], time.monotonic(), self.config, []
        try:
            if self.tokenizer is None:
                done = endpoint.chat(messages, c.max_new_tokens, c.temperature, seed)
            else:
                ids = render_prompt(self.tokenizer, messages)
                done = endpoint.complete(ids, c.max_new_tokens, c.temperature, seed, stop_ids(self.tokenizer))
        except Unanswered as error:
            # Others were answered meanwhile, or the list of models is: then this request alone has no answer.
            if self.heard.get(index, 0.0) < asked:
                try:
                    endpoint.check()
                except UsageError:
                    raise RunFailed(f"--endpoint {error}. Start the server again; the same command resumes.") from error
            raise
        except PosixSdcError as error:  # the server lives: it spoils this session alone
            raise InfrastructureError(str(error)) from error
        self.heard[index] = time.monotonic()
        stop = done.finish_reason if done.finish_reason in ("length", "context") else "end"
        if (why := done.without_content) and stop != "context":
            self.silent[why] = self.silent.get(why, 0) + 1
        text = reply_text(self.tokenizer, done.ids) if self.tokenizer is not None and done.ids else done.text
        return text, Generation(0, prompt_hash(ids) if ids else "", done.prompt_tokens, done.ids, stop)


BASELINES: Mapping[str, Sequence[str]] = {
    "exit at once": (),
    "panic at once": ("panic the directive cannot be carried out",),
    "prose, then exit": ("Sure! I will take a look at the directives and do what they ask.",),
}
"""What doing nothing scores, which a rate has to be read against: what is said before ``exit``."""


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
