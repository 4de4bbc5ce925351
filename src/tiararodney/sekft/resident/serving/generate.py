"""From a request to replies on their way: prompts rendered as in training, sampled by the generator."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import SekftError
from tiararodney.sekft.render import Message, SessionRefused, render_prompt
from tiararodney.sekft.resident.serving.requests import ApiError, Chat, Text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from concurrent.futures import Future

    from tiararodney.sekft.model import Generated, Generator, Token
    from tiararodney.sekft.resident.serving.models import Served
    from tiararodney.sekft.resident.serving.requests import ChatMessage

DEFAULT_TEXT_TOKENS = 16
"""The limit of a text completion where the request names none: OpenAI's."""


_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Decoder:
    """Decodes one reply, token by token.

    Text is given out when no later token can change it: not while its last character is unfinished UTF-8, and not while
    it may be the beginning of a stop text.

    Args:
        decode: token ids to text, control tokens left out.
        stops: texts that end the reply; what begins with one is left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        self._sent = 0

    def add(self, token: int) -> str:
        """Take a token; return the text that became certain with it.

        `text` is the reply so far, cut at the first stop text; `stopped` is true from the token on that completes one.
        """
        self.ids.append(token)
        self.text = self._decode(self.ids)
        if found := [at for at in (self.text.find(stop) for stop in self._stops) if at >= 0]:
            self.text, self.stopped = self.text[: min(found)], True
            return self._give(len(self.text))
        return self._give(len(self.text) - self._uncertain())

    def rest(self) -> str:
        """Return what was held back, at the reply's end."""
        return self._give(len(self.text))

    def _uncertain(self) -> int:
        """How many characters at the end may still change or belong to a stop text."""
        certain = self.text.rstrip(_UNFINISHED)
        begun = 0
        for stop in self._stops:
            sizes = range(min(len(stop) - 1, len(certain)), begun, -1)
            begun = max(begun, next((size for size in sizes if certain.endswith(stop[:size])), 0))
        return len(self.text) - len(certain) + begun

    def _give(self, end: int) -> str:
        given = self.text[self._sent : end]
        self._sent = max(self._sent, end)
        return given


@dataclass
class Reply:
    """One prompt's reply on its way.

    Args:
        prompt: token ids.
        decoder: turns its tokens into text.
        future: the generator's, once submitted.
        tokens: what came so far, stop tokens left out.
        done: the generator's result, once there.
    """

    prompt: list[int]
    decoder: Decoder
    future: Future[Generated] | None = None
    tokens: list[Token] = field(default_factory=list)
    done: Generated | None = None

    @property
    def finish_reason(self) -> str | None:
        """``stop`` or ``length``, as OpenAI has it; None before the end."""
        if self.done is None:
            return None
        return "stop" if self.decoder.stopped or self.done.stopped else "length"


def render_chat(served: Served, messages: Sequence[ChatMessage]) -> list[int]:
    """Return the token ids of a chat, rendered as it was for training.

    Raises:
        ApiError: the messages make no chat.
    """
    try:
        return render_prompt(served.tokenizer, [Message(m.role, m.content) for m in messages])
    except (SessionRefused, ValueError) as error:
        raise ApiError(400, f"messages: {error}", "messages") from None


class Replies:
    """The replies to one request, sampled together.

    Args:
        generator: over the hot base.
        asked: the request.
        served: what its model's name stands for.

    Raises:
        ApiError: a prompt makes no chat, is empty, leaves no room for a reply, or holds ids that the model has not.
    """

    def __init__(self, generator: Generator, asked: Chat | Text, served: Served) -> None:
        self.asked, self.served = asked, served
        self.id = ("chatcmpl-" if isinstance(asked, Chat) else "cmpl-") + uuid.uuid4().hex
        self.created = int(time.time())
        self._generator = generator
        self._queue: asyncio.Queue[tuple[int, Token | Generated | BaseException]] = asyncio.Queue()
        if isinstance(asked, Chat):
            prompts = [render_chat(served, asked.messages)]
        else:
            prompts = [served.tokenizer.encode(p) if isinstance(p, str) else p for p in asked.prompt]
        self.replies = [Reply(p, Decoder(served.decode, asked.stop)) for p in prompts]
        param, context = "messages" if isinstance(asked, Chat) else "prompt", generator.context
        for size in map(len, prompts):
            needed = size + (asked.max_tokens or 1)
            if not size:
                raise ApiError(400, "prompt: found a prompt without tokens, expected at least one.", param)
            if context is not None and needed > context:
                found = f"{size} of the prompt and {needed - size} of the reply are {needed}"
                message = f"this model's maximum context length is {context} tokens; {found}."
                raise ApiError(400, message, param, "context_length_exceeded")

    def start(self) -> None:
        """Submit every prompt.

        Raises:
            ApiError: the generator refuses one.
        """
        from tiararodney.sekft.model import Sampling

        asked, loop = self.asked, asyncio.get_running_loop()
        seed = random.getrandbits(32) if asked.seed is None else asked.seed

        def put(index: int, item: Token | Generated | BaseException) -> None:
            loop.call_soon_threadsafe(self._queue.put_nowait, (index, item))

        for index, reply in enumerate(self.replies):
            room = (self._generator.context or 1 << 30) - len(reply.prompt)
            default = room if isinstance(asked, Chat) else min(room, DEFAULT_TEXT_TOKENS)
            sampling = Sampling(
                max_new_tokens=asked.max_tokens or default,
                temperature=asked.temperature,
                top_p=asked.top_p,
                seed=seed,
                stop_ids=self.served.stop_ids,
                logprobs=asked.alternatives,
            )
            # Decoded a second time in the generator's thread, which has to know at once that a stop text is complete.
            watcher = Decoder(self.served.decode, asked.stop)

            def on_token(token: Token, index: int = index, watcher: Decoder = watcher) -> bool:
                put(index, token)
                if asked.stop:
                    watcher.add(token.id)
                return watcher.stopped

            def on_end(future: Future[Generated], index: int = index) -> None:
                if not future.cancelled():
                    put(index, future.exception() or future.result())

            try:
                reply.future = self._generator.submit(
                    reply.prompt, sampling, adapter=self.served.adapter, key=str(index), on_token=on_token
                )
            except SekftError as error:
                self.cancel()
                raise ApiError(400, str(error), "prompt") from None
            reply.future.add_done_callback(on_end)

    async def events(self) -> AsyncIterator[tuple[int, str, Token | None]]:
        """Yield ``(prompt's index, new text, token)`` as tokens come, with None for the rest at a reply's end.

        Raises:
            ApiError: generation failed.
        """
        from tiararodney.sekft.model import Token

        left = len(self.replies)
        while left:
            index, item = await self._queue.get()
            reply = self.replies[index]
            if isinstance(item, BaseException):
                self.cancel()
                raise ApiError(500, str(item)) from item
            if not isinstance(item, Token):
                reply.done = item
                left -= 1
                yield index, reply.decoder.rest(), None
            elif not reply.decoder.stopped:
                reply.tokens.append(item)
                yield index, reply.decoder.add(item.id), item

    def cancel(self) -> None:
        """End all replies after the current step."""
        for reply in self.replies:
            if reply.future is not None:
                reply.future.cancel()
