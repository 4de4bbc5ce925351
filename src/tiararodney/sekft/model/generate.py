"""Continuous batching: prompts join the running batch as they come and leave it as they end.

One thread owns the model while there is work. Whoever wants a reply submits a prompt from any thread and gets a future:

    generator = Generator(base, max_batch=16)
    future = generator.submit(prompt_ids, Sampling(stop_ids=stops), adapter="tuned", key="session 7")
    reply = future.result()
    future.cancel()  # ends the reply after the current step

The KV cache of a finished reply is kept, least recently used dropped first. A later prompt of the same adapter that
begins with the same tokens, as a session's next turn does, computes only what is new. Rows of the base and of several
adapters share a batch where PEFT can mix them, else they take turns. Long prompts go in chunks, and decoding goes on
between them. Where memory runs out the batch is halved, then the chunk, and its rows are computed again. Other work on
the model takes `base.lock`, which the generator takes for one step at a time.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.model.adapters import can_mix, switch_adapter
from tiararodney.sekft.model.forward import Traits, can_share, find_traits, forward, prefill
from tiararodney.sekft.model.kv import PrefixCache, Row, stack_rows, take_row
from tiararodney.sekft.model.memory import free_memory, is_out_of_memory, release_memory
from tiararodney.sekft.model.sampling import Sampling, Token, choose, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tiararodney.sekft.model.base import Base

log = logging.getLogger(__name__)

KV_SHARE = 0.5  # of the memory that is free when the first prompt comes
# Tokens of prompts that go through the model at once. On a CPU few: a signal waits for the chunk at hand.
CHUNK = {"cpu": 256, "cuda": 8192}
LEAST_CHUNK = 64
IDLE = 0.5  # seconds without work after which the thread ends


@dataclass(frozen=True)
class Generated:
    """One reply.

    Attributes:
        tokens: The new tokens, without the stop token, with their log-probabilities where those were asked for.
        stopped: Whether a stop token, or `on_token`, ended it; False means that the limit cut it off.
        cached_tokens: How many of the prompt's tokens were found in a cache.
    """

    tokens: tuple[Token, ...]
    stopped: bool
    cached_tokens: int = 0

    @property
    def ids(self) -> list[int]:
        """The new token ids."""
        return [token.id for token in self.tokens]


@dataclass(eq=False)
class _Request:
    """One prompt that is being continued; `ids` are its and the reply's, in a batch all but the last of them cached."""

    ids: list[int]
    sampling: Sampling
    adapter: str | None
    version: int  # which of the adapters that had this name
    key: str
    on_token: Callable[[Token], bool | None] | None
    begun: Row | None = None  # the cache of the chunks that have gone through the model
    cached_tokens: int = 0
    reply: list[Token] = field(default_factory=list)
    outcome: Any = None  # a `Generated` or an error, handed to the future after the step
    future: Future[Generated] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.source = self.adapter, self.version  # what its cache is computed with
        self.limit = len(self.ids) + self.sampling.max_new_tokens

    def accept(self, token: Token) -> None:
        """Append the next token, hand it out, and see whether the reply has ended."""
        self.ids.append(token.id)
        enough = token.id in self.sampling.stop_ids
        if not enough:
            self.reply.append(token)
            try:
                enough = bool(self.on_token is not None and self.on_token(token))
            except Exception as error:  # noqa: BLE001 - a reader's fault ends its own reply only
                self.outcome = error
                return
        if enough or len(self.reply) >= self.sampling.max_new_tokens:
            self.outcome = Generated(tuple(self.reply), enough, self.cached_tokens)


class Generator:
    """Generates with a base and its adapters, for any number of threads. See the module's docstring.

    Args:
        base: The base.
        max_batch: How many rows go through the model together.
        kv_gib: Memory for the caches of running and finished rows, in GiB; None takes half of what is free when the
            first prompt comes.
    """

    def __init__(self, base: Base, *, max_batch: int = 64, kv_gib: float | None = None) -> None:
        self.base = base
        self._limit = max_batch
        self._kv_memory = None if kv_gib is None else int(kv_gib * 2**30)
        self._chunk = CHUNK.get(torch.device(base.device).type, CHUNK["cuda"])
        self._kept = PrefixCache()
        self._open: list[_Request] = []  # in order of arrival, until their outcomes are handed out
        self._block: list[_Request] = []  # whose prompts are going through the model
        self._rows: list[_Request] = []  # those of the running batch
        self._cache: Any = None
        self._resting: tuple[str | None] | None = None  # the adapter in use before the work came
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def context(self) -> int | None:
        """How many tokens the model was made for, prompt and reply together; None where it does not say."""
        return getattr(self.base.model.config.get_text_config(decoder=True), "max_position_embeddings", None)

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        adapter: str | None = None,
        key: str = "",
        on_token: Callable[[Token], bool | None] | None = None,
    ) -> Future[Generated]:
        """Ask for the continuation of a prompt; return at once.

        Args:
            prompt: Token ids, at least one.
            sampling: How the reply is drawn.
            adapter: The name of an attached adapter; None for the base alone.
            key: Names the draws: one for every scenario and sample.
            on_token: Called in the generator's thread with every token but a stop token; returns True to end the reply
                (a stop string). Must not block. What it raises becomes the reply's error.

        Returns:
            The reply to be. Its error is a `RunFailed` where memory does not suffice for this prompt or the model
            failed, a `UsageError` where its adapter was taken off the base meanwhile.

        Raises:
            UsageError: The prompt is empty or has ids beyond the embedding, or no such adapter is attached.
        """
        size = self.base.model.get_input_embeddings().weight.shape[0]
        if not prompt:
            raise UsageError("found a prompt without tokens, expected at least one token id.")
        if not 0 <= min(prompt) <= max(prompt) < size:
            raise UsageError(f"found token id {max(prompt)}, but {self.base.path} has embeddings for {size} ids.")
        version = self.base.adapters.version(adapter)
        if version is None:
            raise UsageError(f"no adapter {adapter!r} is attached. Attach it first.")
        request = _Request(list(prompt), sampling, adapter, version, key, on_token)
        with self._changed:
            self._open.append(request)
            if self._thread is None:
                # Python waits for it at the end; a daemon is killed there, and inside torch that aborts the process.
                self._thread = threading.Thread(target=self._work, name="sekft-generator", daemon=False)
                self._thread.start()
            self._changed.notify()
        return request.future

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        stop_ids: Collection[int],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Generated]:
        """Continue every prompt with the adapter that is in use, and wait for all; see `submit` and `Sampling`.

        Draws are named by the prompts' numbers.
        """
        sampling = Sampling(max_new_tokens, temperature, seed=seed, stop_ids=frozenset(stop_ids))
        with self.base.lock:  # all of them start together
            active = self.base.adapters.active
            futures = [self.submit(p, sampling, adapter=active, key=str(number)) for number, p in enumerate(prompts)]
        return [future.result() for future in futures]

    def cancel(self) -> None:
        """Cancel every reply, as its future's `cancel`."""
        for request in list(self._open):
            request.future.cancel()

    def forget(self) -> None:
        """Drop the caches of finished replies."""
        with self.base.lock:
            self._kept.clear()

    # ---- from here on: called by the thread only

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._open, IDLE):
                    self._thread = None
                    return
            failed = None
            with self.base.lock, torch.inference_mode():
                if self._resting is None:  # read with the lock held: others switch adapters under it
                    self._resting = (self.base.adapters.active,)
                try:
                    self._step()
                except Exception as error:  # whatever it is belongs to those who wait
                    log.debug("generation failed", exc_info=True)
                    failed = error.with_traceback(None)  # which holds tensors
                if failed is not None:
                    self._recover(failed)
                self._hand_out()

    def _step(self) -> None:
        """Put one block of prompts and one token of every running row through the model."""
        for request in self._open:
            if self.base.adapters.version(request.adapter) != request.version:
                request.outcome = UsageError(f"adapter {request.adapter!r} was taken off the base meanwhile.")
            elif request.future.cancelled() or not threading.main_thread().is_alive():
                request.outcome = CancelledError()
        traits = find_traits(self.base)
        self._retire(traits)
        self._admit(traits)
        if self._rows:
            rows = self._rows
            logits = forward(self.base, [r.ids for r in rows], [r.adapter for r in rows], self._cache)
            self._accept(rows, logits, traits)

    def _admit(self, traits: Traits) -> None:
        """Put a block of waiting prompts through the model, and their rows into the batch."""
        group = self._choose(traits)
        fresh, prefixes = [request for request, _ in group], [prefix for _, prefix in group]
        if not group or not traits.can_decode:
            self._rows += fresh
            return
        self._block = fresh
        for request, prefix in group:
            if request.begun is None:
                request.cached_tokens = prefix.length if prefix is not None else 0
            self._kept.drop_prefixes(request.source, request.ids)
        texts = [request.ids for request in fresh]
        if len(fresh) == 1 and traits.can_extend:
            texts = [fresh[0].ids[: (prefixes[0].length if prefixes[0] else 0) + self._chunk]]
        cache, logits = prefill(self.base, texts, [request.adapter for request in fresh], prefixes)
        new = [take_row(cache, number, len(ids)) for number, ids in enumerate(texts)]
        self._block = []
        if len(texts[0]) < len(fresh[0].ids):
            fresh[0].begun = new[0]  # the next chunk goes on from there
            return
        if self._rows:
            cache = stack_rows(self._cache, [(n, len(row.ids) - 1) for n, row in enumerate(self._rows)], new)
        self._cache, self._rows = cache, [*self._rows, *fresh]
        self._accept(fresh, logits, traits)

    def _choose(self, traits: Traits) -> list[tuple[_Request, Row | None]]:
        """Choose the prompt that has waited longest and those that fit into a block with it, each with its cache."""
        waiting = [request for request in self._open if request.outcome is None and request not in self._rows]
        lanes = {self._lane(request) for request in (*self._rows[:1], *waiting[:1])}
        group: list[tuple[_Request, Row | None]] = []
        if len(lanes) > 1:
            return group  # it waits until the batch has run empty
        for request in waiting:
            if self._lane(request) not in lanes:
                continue
            prefix = request.begun or self._kept.find(request.source, request.ids)
            rows = [*self._rows, *(chosen for chosen, _ in group), request]
            if len(rows) > (self._limit if traits.can_decode else 1) or not self._fit(rows, traits):
                break
            block = [*group, (request, prefix)]
            texts, prefixes = [r.ids for r, _ in block], [row for _, row in block]
            if not group or can_share(texts, prefixes, self._chunk, stateful=traits.stateful):
                group = block
        return group

    def _fit(self, rows: Sequence[_Request], traits: Traits) -> bool:
        """Whether running and new rows fit; finished ones are dropped for them. A row alone may always try."""
        needed = len(rows) * (traits.fixed + max(row.limit for row in rows) * traits.per_token)
        if self._kv_memory is None:
            self._kv_memory = int(KV_SHARE * free_memory(self.base.device))
            log.debug("KV cache of at most %.1f GiB", self._kv_memory / 2**30)
        self._kept.shrink(max(self._kv_memory - needed, 0))
        return needed <= self._kv_memory or len(rows) == 1

    def _accept(self, rows: Sequence[_Request], logits: torch.Tensor, traits: Traits) -> None:
        """Draw the next token of every row, hand it out, and take out the rows that have ended."""
        draws = [draw(r.sampling.seed, r.key, len(r.reply)) if r.sampling.temperature > 0 else 0.0 for r in rows]
        for request, token in zip(rows, choose(logits, [r.sampling for r in rows], draws), strict=True):
            request.accept(token)
        self._retire(traits)

    def _retire(self, traits: Traits) -> None:
        """Take rows that have ended out of the batch and keep their caches."""
        left = [(number, row) for number, row in enumerate(self._rows) if row.outcome is None]
        if len(left) == len(self._rows):
            return
        if traits.can_extend:
            for number, row in enumerate(self._rows):
                if row.outcome is not None:
                    ids = row.ids[:-1]
                    self._kept.add(row.source, ids, take_row(self._cache, number, len(ids)).copied())
        if not left:
            self._cache = None
        elif self._cache is not None:
            stack_rows(self._cache, [(number, len(row.ids) - 1) for number, row in left])
        self._rows = [row for _, row in left]

    def _recover(self, error: Exception) -> None:
        """Drop every cache; after memory ran out halve the batch or the chunk, then rows go on from their tokens."""
        rows = [request for request in [*self._block, *self._rows] or self._open if request.outcome is None]
        self._rows, self._block, self._cache = [], [], None
        self._kept.clear()
        for request in self._open:
            request.begun = None
        release_memory()
        if not is_out_of_memory(error):
            failed = RunFailed(f"the model failed while generating: {type(error).__name__}: {error}")
            for request in self._open:
                request.outcome = request.outcome or (error if isinstance(error, SekftError) else failed)
            return
        if len(rows) > 1:
            self._limit = len(rows) // 2
        elif self._chunk > LEAST_CHUNK:
            self._chunk //= 2
        else:
            for request in rows:
                request.outcome = RunFailed(
                    f"out of memory on {self.base.device} with one prompt of {len(request.ids)} tokens. "
                    "Load the base with --load-4bit, or use a device with more memory."
                )
            return
        log.warning("out of memory: at most %d replies at once, %d tokens a chunk", self._limit, self._chunk)

    def _hand_out(self) -> None:
        """Set results; with nothing left, the adapter that was in use before is so again."""
        with self._changed:
            ended = [request for request in self._open if request.outcome is not None]
            self._open = [request for request in self._open if request.outcome is None]
            if not self._open and self._resting is not None:
                switch_adapter(self.base, *self._resting)
                self._resting = None
        for request in ended:
            if request.future.set_running_or_notify_cancel():
                if isinstance(request.outcome, BaseException):
                    request.future.set_exception(request.outcome)
                else:
                    request.future.set_result(request.outcome)

    def _lane(self, request: _Request) -> str:
        """Rows that can share a batch share a lane; lanes take turns."""
        return "" if request.adapter is None or can_mix(self.base, request.adapter) else request.adapter
