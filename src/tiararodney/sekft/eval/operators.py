"""Who acts in the worlds: a local model, or an endpoint. Both answer for a batch of sessions and note how."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.episodes import Generation, prompt_hash
from tiararodney.sekft.render import Message, render_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.endpoint import Endpoint
    from tiararodney.sekft.render import Tokenizer


class BatchOperator(Protocol):
    """Whoever acts in many sessions at once, as posix-sdc's session loop asks for it."""

    @property
    def name(self) -> str:
        """What the recorder calls it."""
        ...

    @property
    def notes(self) -> Notes:
        """How each reply came about."""
        ...

    def reply_batch(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
        """Return the next command of every session, in their order."""
        ...


class Notes:
    """How each reply came about, found again by the messages that it answers.

    A reply depends on nothing but its prompt, the model and the seed, so two sessions with the same messages share
    one note.
    """

    def __init__(self) -> None:
        self._notes: dict[bytes, Generation] = {}

    def add(self, messages: Sequence[Mapping[str, str]], note: Generation) -> None:
        """Keep the note of the reply to `messages`."""
        self._notes[_key(messages)] = note

    def of_session(self, messages: Sequence[Mapping[str, str]]) -> tuple[Generation, ...]:
        """Return one note for every assistant turn of a finished session."""
        out = []
        for turn, message in enumerate(messages):
            if message["role"] == "assistant":
                note = self._notes.get(_key(messages[:turn]), Generation(turn))
                out.append(replace(note, turn=turn))
        return tuple(out)


def _key(messages: Sequence[Mapping[str, str]]) -> bytes:
    plain = [(m["role"], m["content"]) for m in messages]
    return hashlib.sha256(json.dumps(plain).encode()).digest()


@dataclass(frozen=True)
class ModelOperator:
    """A base model, with whatever adapter is switched on.

    Args:
        name: what the recorder calls it.
        generator: `sekft.model.Generator` over the base; keeps the sessions' key-value caches between turns.
        tokenizer: renders, encodes and decodes.
        stop_ids: tokens that end a reply.
        context: tokens that the model can hold.
        max_new_tokens: the limit of a reply, in tokens.
        temperature: 0 is greedy.
        seed: of the sampling.
        notes: filled with how each reply came about.
    """

    name: str
    generator: Any
    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    context: int
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    notes: Notes = field(default_factory=Notes)

    def reply_batch(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
        """Return the next command of every session.

        A session whose prompt leaves no room for a reply gets an empty one, as from a server that refuses it.
        """
        prompts = [render_prompt(self.tokenizer, messages) for messages in conversations]
        fits = [i for i, ids in enumerate(prompts) if len(ids) + self.max_new_tokens <= self.context]
        # The session loop does not say which sessions these are: equal prompts still share their draws.
        generated = self.generator.generate(
            [prompts[i] for i in fits],
            self.stop_ids,
            self.max_new_tokens,
            self.temperature,
            self.seed,
            keys=[prompt_hash(prompts[i]) for i in fits],
        )
        replies = [""] * len(prompts)
        notes = [Generation(0, prompt_hash(ids), len(ids), (), "context") for ids in prompts]
        for i, reply in zip(fits, generated, strict=True):
            replies[i] = reply_text(self.tokenizer, reply.ids)
            notes[i] = replace(notes[i], reply_ids=tuple(reply.ids), stop="end" if reply.stopped else "length")
        for messages, note in zip(conversations, notes, strict=True):
            self.notes.add(messages, note)
        return replies


@dataclass(frozen=True)
class EndpointOperator:
    """A model behind an OpenAI-compatible server.

    Args:
        name: what the recorder calls it.
        endpoint: the server and the model's name.
        parallel: requests in flight at once.
        max_new_tokens: the limit of a reply, in tokens.
        temperature: 0 is greedy.
        seed: sent along; servers may or may not heed it.
        notes: filled with how each reply came about.
    """

    name: str
    endpoint: Endpoint
    parallel: int
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    notes: Notes = field(default_factory=Notes)

    def reply_batch(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
        """Return the next command of every session, as the server words it."""
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(self.reply, conversations))

    def reply(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the next command of one session."""
        done = self.endpoint.chat(messages, self.max_new_tokens, self.temperature, self.seed)
        self.notes.add(messages, Generation(0, "", done.prompt_tokens, (), done.stop))
        return done.text


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
