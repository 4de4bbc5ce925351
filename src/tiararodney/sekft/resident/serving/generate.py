"""From what a request asks for to replies on their way: prompts rendered as in training, sampled by the generator."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import SekftError
from tiararodney.sekft.render import SessionRefused, render_prompt
from tiararodney.sekft.resident.serving.errors import ApiError
from tiararodney.sekft.resident.serving.requests import CHAT
from tiararodney.sekft.resident.serving.text import Decoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Future

    from tiararodney.sekft.model import Generator
    from tiararodney.sekft.model.generate import Generated, Handle
    from tiararodney.sekft.model.sampling import Token
    from tiararodney.sekft.resident.serving.models import Served
    from tiararodney.sekft.resident.serving.requests import Asked

DEFAULT_TEXT_TOKENS = 16
"""The limit of a text completion where the request names none: OpenAI's."""


@dataclass
class Reply:
    """One prompt's reply on its way.

    Args:
        prompt: token ids.
        decoder: turns its tokens into text.
        handle: of the generator, once submitted.
        tokens: what came so far, stop tokens left out.
        done: the generator's result, once there.
    """

    prompt: list[int]
    decoder: Decoder
    handle: Handle | None = None
    tokens: list[Token] = field(default_factory=list)
    done: Generated | None = None

    @property
    def finish_reason(self) -> str:
        """``stop`` or ``length``, as OpenAI has it."""
        return "stop" if self.decoder.stopped or self.done is None or self.done.stopped else "length"


def prompts_of(asked: Asked, served: Served) -> list[list[int]]:
    """Return the token ids of every prompt of a request; a chat is rendered as it was for training.

    Raises:
        ApiError: the messages make no chat, or a prompt is empty.
    """
    if asked.kind == CHAT:
        try:
            return [render_prompt(served.tokenizer, asked.messages)]
        except (SessionRefused, ValueError) as error:
            raise ApiError(400, f"messages: {error}", "messages") from None
    prompts = [served.tokenizer.encode(p) if isinstance(p, str) else list(p) for p in asked.prompts]
    if not all(prompts):
        raise ApiError(400, "prompt: found a prompt without tokens, expected at least one.", "prompt")
    return prompts


class Replies:
    """The replies to one request, sampled together.

    Args:
        generator: over the hot base.
        asked: the request.
        served: what its model's name stands for.

    Raises:
        ApiError: a prompt leaves no room for a reply, or holds ids that the model has not.
    """

    def __init__(self, generator: Generator, asked: Asked, served: Served) -> None:
        self.asked, self.served = asked, served
        self.id = ("chatcmpl-" if asked.kind == CHAT else "cmpl-") + uuid.uuid4().hex
        self.created = int(time.time())
        self._generator = generator
        self._queue: asyncio.Queue[tuple[int, Token | Generated | BaseException]] = asyncio.Queue()
        self.replies = [Reply(p, Decoder(served.decode, asked.stop)) for p in prompts_of(asked, served)]
        context = generator.context
        for reply in self.replies:
            needed = len(reply.prompt) + (asked.max_tokens or 1)
            if context is not None and needed > context:
                raise ApiError(
                    400,
                    f"this model's maximum context length is {context} tokens; {len(reply.prompt)} of the prompt and "
                    f"{asked.max_tokens or 1} of the reply are {needed}.",
                    "messages" if asked.kind == CHAT else "prompt",
                    "context_length_exceeded",
                )

    def start(self) -> None:
        """Submit every prompt.

        Raises:
            ApiError: the generator refuses one.
        """
        from tiararodney.sekft.model import Sampling

        asked, loop = self.asked, asyncio.get_running_loop()
        seed = random.getrandbits(32) if asked.seed is None else asked.seed
        for index, reply in enumerate(self.replies):
            room = (self._generator.context or 1 << 30) - len(reply.prompt)
            sampling = Sampling(
                max_new_tokens=asked.max_tokens or (room if asked.kind == CHAT else min(room, DEFAULT_TEXT_TOKENS)),
                temperature=asked.temperature,
                top_p=asked.top_p,
                seed=seed,
                stop_ids=self.served.stop_ids,
                logprobs=asked.logprobs,
            )

            def put(index: int, item: Token | Generated | BaseException) -> None:
                loop.call_soon_threadsafe(self._queue.put_nowait, (index, item))

            # Decoded a second time in the generator's thread, which has to know at once that a stop text is complete.
            watcher = Decoder(self.served.decode, asked.stop)

            def on_token(token: Token, index: int = index, watcher: Decoder = watcher) -> bool:
                put(index, token)
                if asked.stop:
                    watcher.add(token.id)
                return watcher.stopped

            try:
                reply.handle = self._generator.submit(
                    reply.prompt, sampling, adapter=self.served.adapter, key=str(index), on_token=on_token
                )
            except SekftError as error:
                self.cancel()
                raise ApiError(400, str(error), "prompt") from None

            def on_end(future: Future[Generated], index: int = index) -> None:
                put(index, future.exception() or future.result())

            reply.handle.future.add_done_callback(on_end)

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
            if reply.handle is not None:
                reply.handle.cancel()
