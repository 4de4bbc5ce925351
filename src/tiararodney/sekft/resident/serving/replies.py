"""Replies to a request: rendered as in training, sampled as asked for, given in OpenAI's shapes."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import SekftError
from tiararodney.sekft.eval.operators import reply_text
from tiararodney.sekft.render import Message, SessionRefused, render_prompt
from tiararodney.sekft.resident.serving.requests import ApiError, Chat

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncIterator, Callable, Sequence
    from concurrent.futures import Future

    from tiararodney.sekft.model import Generated, Generator, Token
    from tiararodney.sekft.render import Tokenizer
    from tiararodney.sekft.resident.serving.requests import ChatMessage, Text

DEFAULT_TEXT_TOKENS = 16
"""The limit of a text completion where the request names none: OpenAI's."""
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Served:
    """One name that clients give, with what renders for it and what ends its replies."""

    name: str
    adapter: str | None  # the attached adapter's name, None for the base
    tokenizer: Tokenizer
    stop_ids: frozenset[int]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens left out."""
        return reply_text(self.tokenizer, ids)


class Reply:
    """One prompt's reply on its way, decoded token by token.

    Text is given out when no later token can change it: not while its last character is unfinished UTF-8, and not while
    it may be the beginning of a stop text. A stop text, and what comes after it, is left out.
    """

    def __init__(self, prompt: list[int], decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self.prompt, self._decode, self._stops = prompt, decode, tuple(stops)
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        self._sent = 0
        self.future: Future[Generated] | None = None
        self.done: Generated | None = None

    def add(self, token: int) -> str:
        """Take a token; return the text that became certain with it.

        `text` is the reply so far, cut at the first stop text; `stopped` is true from the token on that completes one.
        """
        self.ids.append(token)
        self.text = self._decode(self.ids)
        if found := [at for at in (self.text.find(stop) for stop in self._stops) if at >= 0]:
            self.text, self.stopped = self.text[: min(found)], True
            return self.rest()
        certain = self.text.rstrip(_UNFINISHED)
        begun = (certain.endswith(stop[:size]) and size for stop in self._stops for size in range(len(stop)))
        return self._give(len(certain) - max(begun, default=0))

    def rest(self) -> str:
        """Return what was held back, at the reply's end."""
        return self._give(len(self.text))

    def _give(self, end: int) -> str:
        given = self.text[self._sent : end]
        self._sent = max(self._sent, end)
        return given

    @property
    def finish_reason(self) -> str | None:
        """``stop`` or ``length``, as OpenAI has it; None before the end."""
        if self.done is None:
            return None
        return "stop" if self.done.stopped else "length"


def render_chat(served: Served, messages: Sequence[ChatMessage]) -> list[int]:
    """Return the token ids of a chat, rendered as it was for training; raise an ApiError where it is none."""
    try:
        return render_prompt(served.tokenizer, [Message(m.role, m.content) for m in messages])
    except (SessionRefused, ValueError) as error:
        raise ApiError(400, f"messages: {error}", "messages") from None


class Replies:
    """The replies to one request, sampled together; `events` is waited for in the given loop.

    Raises:
        ApiError: a prompt makes no chat, is empty, or leaves no room for a reply.
        SekftError: the generator refuses a prompt.
    """

    def __init__(self, generator: Generator, asked: Chat | Text, served: Served, loop: AbstractEventLoop) -> None:
        self.asked, self.served, self._loop = asked, served, loop
        self.id = ("chatcmpl-" if isinstance(asked, Chat) else "cmpl-") + uuid.uuid4().hex
        self.created = int(time.time())
        self._queue: asyncio.Queue[tuple[int, str, Token | Future[Generated]]] = asyncio.Queue()
        if isinstance(asked, Chat):
            prompts = [render_chat(served, asked.messages)]
        else:
            prompts = [served.tokenizer.encode(p) if isinstance(p, str) else p for p in asked.prompt]
        param, context = "messages" if isinstance(asked, Chat) else "prompt", generator.context
        for size in map(len, prompts):
            needed = size + (asked.max_tokens or 1)
            if not size:
                raise ApiError(400, "prompt: found a prompt without tokens, expected at least one.", param)
            if context is not None and needed > context:
                found = f"{size} of the prompt and {needed - size} of the reply are {needed}"
                message = f"this model's maximum context length is {context} tokens; {found}."
                raise ApiError(400, message, param, "context_length_exceeded")
        self.replies = [Reply(p, served.decode, asked.stop) for p in prompts]
        seed = random.getrandbits(32) if asked.seed is None else asked.seed
        try:
            for index, reply in enumerate(self.replies):
                self._submit(generator, index, reply, seed)
        except SekftError:
            self.cancel()
            raise

    def _submit(self, generator: Generator, index: int, reply: Reply, seed: int) -> None:
        from tiararodney.sekft.model import Sampling

        asked, room = self.asked, (generator.context or 1 << 30) - len(reply.prompt)
        sampling = Sampling(
            max_new_tokens=asked.max_tokens or (room if isinstance(asked, Chat) else min(room, DEFAULT_TEXT_TOKENS)),
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=seed,
            stop_ids=self.served.stop_ids,
            logprobs=asked.alternatives,
        )

        def put(text: str, item: Token | Future[Generated]) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, text, item))

        def on_token(token: Token) -> bool:
            put(reply.add(token.id), token)
            return reply.stopped

        reply.future = generator.submit(
            reply.prompt, sampling, adapter=self.served.adapter, key=str(index), on_token=on_token
        )
        reply.future.add_done_callback(lambda future: None if future.cancelled() else put("", future))

    async def events(self) -> AsyncIterator[tuple[int, str, Token | None]]:
        """Yield ``(prompt's index, new text, token)`` as tokens come, with None for the rest at a reply's end.

        Raises:
            ApiError: generation failed.
        """
        from tiararodney.sekft.model import Token

        left = len(self.replies)
        while left:
            index, text, item = await self._queue.get()
            reply = self.replies[index]
            if isinstance(item, Token):
                yield index, text, item
            elif (error := item.exception()) is not None:
                self.cancel()
                raise ApiError(500, str(error)) from error
            else:
                reply.done = item.result()
                left -= 1
                yield index, reply.rest(), None

    def cancel(self) -> None:
        """End all replies after the current step."""
        for reply in self.replies:
            if reply.future is not None:
                reply.future.cancel()


def whole(replies: Replies) -> dict[str, Any]:
    """Return the answer to a request that does not stream."""
    choices = []
    for index, reply in enumerate(replies.replies):
        content, tokens = {"role": "assistant", "content": reply.text}, reply.done.tokens if reply.done else ()
        choice = _choice(replies, index, {"message": content}, reply.text, tokens)
        choices.append(choice | ({"prompt_token_ids": reply.prompt} if replies.asked.return_token_ids else {}))
    return _head(replies, "") | {"choices": choices, "usage": usage(replies)}


def chunk(replies: Replies, index: int, text: str, token: Token | None, *, first: bool = False) -> dict[str, Any]:
    """Return one chunk of a stream; the first one of a chat names the role, the last one has the finish reason."""
    ended = token is None and not first
    delta = {"role": "assistant"} if first else {}
    delta |= {} if ended and not text else {"content": text}
    choice = _choice(replies, index, {"delta": delta}, text, [] if token is None else [token])
    return _head(replies, ".chunk") | {"choices": [choice]}


def last_chunk(replies: Replies) -> dict[str, Any]:
    """Return the chunk with the usage, for streams that ask for it."""
    return _head(replies, ".chunk") | {"choices": [], "usage": usage(replies)}


def _head(replies: Replies, ending: str) -> dict[str, Any]:
    name = f"chat.completion{ending}" if isinstance(replies.asked, Chat) else "text_completion"
    return {"id": replies.id, "object": name, "created": replies.created, "model": replies.asked.model}


def _choice(replies: Replies, index: int, chat: dict[str, Any], text: str, tokens: Sequence[Token]) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "finish_reason": replies.replies[index].finish_reason}
    choice |= chat if isinstance(replies.asked, Chat) else {"text": text}
    choice["logprobs"] = _logprobs(replies, tokens)
    return choice | ({"token_ids": [t.id for t in tokens]} if replies.asked.return_token_ids else {})


def usage(replies: Replies) -> dict[str, Any]:
    """Count tokens; those whose keys and values were cached are part of the prompt's."""
    prompt = sum(len(r.prompt) for r in replies.replies)
    reply = sum(len(r.ids) + (r.done is not None and r.done.stopped and not r.stopped) for r in replies.replies)
    cached = sum(r.done.cached_tokens for r in replies.replies if r.done is not None)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply,
        "total_tokens": prompt + reply,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _logprobs(replies: Replies, tokens: Sequence[Token]) -> dict[str, Any] | None:
    """Return log-probabilities in the request's shape; None where none were asked for."""
    if (most := replies.asked.alternatives) is None:
        return None
    decode = replies.served.tokenizer.decode

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        text = decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}

    if isinstance(replies.asked, Chat):
        rows = [entry(t.id, t.logprob) | {"top_logprobs": [entry(*pair) for pair in t.top[:most]]} for t in tokens]
        return {"content": rows}
    texts = [decode([t.id]) for t in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [t.logprob for t in tokens],
        "top_logprobs": [{decode([i]): p for i, p in t.top[:most]} for t in tokens],
        "text_offset": [sum(map(len, texts[:i])) for i in range(len(texts))],
    }
