"""Continuous batching: prompts join the running batch as they come and leave it as they end.

One thread owns the model while there is work. Whoever wants a reply submits a prompt from any thread and gets a future:

    generator = Generator(base, max_batch=16)
    future = generator.submit(prompt_ids, Sampling(stop_ids=stops), adapter="tuned", key="session 7")
    reply = future.result()
    future.cancel()  # ends the reply after the current step

- **Turns.** The KV cache of a finished reply is kept, least recently used dropped first. A later prompt of the same
  adapter that begins with the same tokens, as a session's next turn does, computes only what is new. Where a layer
  cannot go back to a shorter prefix (a sliding window that has dropped tokens, a recurrent state) the cache serves
  exact continuations only, else the prompt is computed anew. Replies are the same either way.
- **Adapters.** Rows of the base and of several adapters share a batch (PEFT's `adapter_names`) where the adapters are
  of a kind that PEFT can mix, else they take turns. `adapter` names one that `attach_adapter` has put on the base.
- **Draws** depend on (seed, key, position in the reply), never on the prompt or on the batch: give every scenario and
  sample a key of its own.
- **Memory.** Caches of running and finished rows stay within `kv_gib`. Where memory runs out all the same, the batch is
  halved, then the chunk, and its rows are computed again. Long prompts go in chunks, decoding goes on between them.
- **Other work on the model** (training, attaching and detaching adapters) takes `base.lock`; the generator takes it for
  one step at a time. `forget` drops the kept caches, for when an adapter's weights have changed in place.
"""

from __future__ import annotations

import inspect
import logging
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.model.adapters import can_mix, switch_adapter
from tiararodney.sekft.model.batch import Batch, Generated, Request, can_share, prefill
from tiararodney.sekft.model.kv import new_cache
from tiararodney.sekft.model.memory import free_memory, is_out_of_memory, release_memory
from tiararodney.sekft.model.prefixes import PrefixCache
from tiararodney.sekft.model.sampling import Sampling, Token, choose, draw
from tiararodney.sekft.model.traits import Traits, find_traits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from concurrent.futures import Future

    from tiararodney.sekft.model.base import Base
    from tiararodney.sekft.model.kv import Row

log = logging.getLogger(__name__)

KV_SHARE = 0.5  # of the memory that is free when the first prompt comes
# Tokens that go through the model at once. On a CPU few: a signal waits for the chunk at hand.
CHUNK = {"cpu": 256, "cuda": 8192}
LEAST_CHUNK = 64
IDLE = 0.5  # seconds without work after which the thread ends


class Generator:
    """Generates with a base and its adapters, for any number of threads. See the module's docstring.

    Args:
        base: The base.
        max_batch: How many rows go through the model together.
        kv_gib: Memory for the caches of running and finished rows, in GiB; None takes half of what is free when the
            first prompt comes.
        chunk: Tokens of prompts that go through the model at once; None takes 256 on a CPU, 8192 on a GPU.
    """

    def __init__(
        self, base: Base, *, max_batch: int = 64, kv_gib: float | None = None, chunk: int | None = None
    ) -> None:
        self.base = base
        self._limit = max_batch
        self._kv_memory = None if kv_gib is None else int(kv_gib * 2**30)
        self._chunk = chunk or CHUNK.get(torch.device(base.device).type, CHUNK["cuda"])
        self._kept = PrefixCache()
        self._open: list[Request] = []  # in order of arrival, until their outcomes are handed out
        self._prefill: tuple[Batch, Iterator[torch.Tensor | None]] | None = None
        self._batch, self._lane = Batch([], None, base.device), ""
        self._resting: tuple[str | None] | None = None  # the adapter that was in use before the work came
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        parameters = inspect.signature(base.model.forward).parameters
        self._cache_argument = "cache" if "cache" in parameters else "past_key_values"
        self._options = {"use_cache": True} | ({"logits_to_keep": 1} if "logits_to_keep" in parameters else {})

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
        request = Request(list(prompt), sampling, adapter, key, version, on_token)
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
            with self.base.lock, torch.inference_mode():
                try:
                    self._step()
                except Exception as error:  # whatever it is belongs to those who wait
                    log.debug("generation failed", exc_info=True)
                    failed = RunFailed(f"the model failed while generating: {type(error).__name__}: {error}")
                    self._reset()
                    for request in self._open:
                        request.outcome = request.outcome or (error if isinstance(error, SekftError) else failed)
                self._hand_out()

    def _step(self) -> None:
        """Admit, then put one chunk of prompts and one token of every running row through the model."""
        if self._resting is None:
            self._resting = (self.base.adapters.active,)
        try:
            self._sweep()
            self._admit()
            if self._prefill is not None and (logits := next(self._prefill[1])) is not None:
                (batch, _), self._prefill = self._prefill, None
                self._accept(batch, logits)
                self._batch = self._batch.join(batch)
            if self._batch.requests:
                self._accept(self._batch, self._batch.decode(self._run))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return
        self._shrink()  # outside of the handler, whose traceback holds tensors

    def _sweep(self) -> None:
        """End what was cancelled, what lost its adapter, and everything once Python exits."""
        for request in self._open:
            if self.base.adapters.version(request.adapter) != request.version:
                request.outcome = UsageError(f"adapter {request.adapter!r} was taken off the base meanwhile.")
            elif request.future.cancelled() or not threading.main_thread().is_alive():
                request.outcome = CancelledError()
        self._retire(self._batch)
        if self._prefill is not None and any(request.outcome is not None for request in self._prefill[0].requests):
            self._prefill = None  # the others start again

    def _admit(self) -> None:
        """Start on the oldest request that waits, and on those behind it that fit into one block with it."""
        waiting = [r for r in self._open if r.outcome is None and r not in self._batch.requests]
        if self._prefill is not None or not waiting:
            return
        lane = self._lane_of(waiting[0])
        if self._batch.requests and lane != self._lane:
            return  # it waits until the batch has run empty
        self._lane = lane
        group = self._group([request for request in waiting if self._lane_of(request) == lane])
        if not group:
            return
        for request, _ in group:
            self._kept.drop_prefixes(_source(request), request.ids)
        cache = new_cache(self.base.model.config) if self._traits.can_decode else None
        chunk = self._chunk if self._traits.can_extend else 1 << 30
        self._prefill = prefill(group, cache, self.base.device, self._run, chunk)

    def _group(self, waiting: Sequence[Request]) -> list[tuple[Request, Row | None]]:
        """Choose what goes into one block, each with the kept cache of a prefix of it."""
        group: list[tuple[Request, Row | None]] = []
        free = (self._limit if self._traits.can_batch else 1) - len(self._batch.requests)
        for request in waiting:
            if len(group) >= free:
                break
            prefix = self._kept.find(_source(request), request.ids) if self._traits.can_extend else None
            if not self._fit_memory([*self._batch.requests, *(r for r, _ in group), request]):
                break
            prompts = [(len(r.ids), p) for r, p in [*group, (request, prefix)]]
            if can_share(prompts, stateful=self._traits.stateful):
                group.append((request, prefix))
        return group

    def _fit_memory(self, rows: Sequence[Request]) -> bool:
        """Whether running and new rows fit; finished ones are dropped for them. A row alone may always try."""
        needed = len(rows) * (self._traits.fixed + max(row.limit for row in rows) * self._traits.per_token)
        if self._kv_memory is None:
            self._kv_memory = int(KV_SHARE * free_memory(self.base.device))
            log.debug("KV cache of at most %.1f GiB", self._kv_memory / 2**30)
        self._kept.shrink(max(self._kv_memory - needed, 0))
        return needed <= self._kv_memory or len(rows) == 1

    def _accept(self, batch: Batch, logits: torch.Tensor) -> None:
        """Draw the next token of every row, hand it out, and take out the rows that have ended."""
        rows = batch.requests
        draws = [draw(r.sampling.seed, r.key, len(r.reply)) if r.sampling.temperature > 0 else 0.0 for r in rows]
        for request, token in zip(rows, choose(logits, [r.sampling for r in rows], draws), strict=True):
            request.accept(token)
        self._retire(batch)

    def _retire(self, batch: Batch) -> None:
        """Take rows that have ended out of a batch and keep their caches."""
        for request in [request for request in batch.requests if request.outcome is not None]:
            row = batch.leave(request)
            if row is not None and self._traits.can_extend:
                self._kept.add(_source(request), request.ids[: row.length], row)

    def _run(self, adapters: Sequence[str | None], inputs: dict[str, Any]) -> torch.Tensor:
        """Put tokens through the model with each row's adapter."""
        arguments = self._options | inputs
        if "cache" in arguments:
            arguments[self._cache_argument] = arguments.pop("cache")
        names = set(adapters)
        if len(names) == 1:
            switch_adapter(self.base, names.pop())
            output = self.base.model(**arguments)
        else:
            switch_adapter(self.base, next(name for name in names if name is not None))
            routed = [name or "__base__" for name in adapters]
            output = self.base.adapters.handle(**arguments, adapter_names=routed)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _shrink(self) -> None:
        """After memory ran out: drop what is kept, halve the batch or the chunk; the rows are computed again."""
        rows = [*(self._prefill[0].requests if self._prefill else []), *self._batch.requests] or self._open
        rows = [request for request in rows if request.outcome is None]
        self._reset()
        release_memory()
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

    def _reset(self) -> None:
        """Drop every cache, what was computed halfway included; replies that have not ended start again from there."""
        self._batch, self._prefill = Batch([], None, self.base.device), None
        self._kept.clear()

    def _hand_out(self) -> None:
        """Set results; with nothing left, the adapter that was in use before is so again."""
        with self._changed:
            ended = [request for request in self._open if request.outcome is not None]
            self._open = [request for request in self._open if request.outcome is None]
            if not self._open and self._resting is not None:
                switch_adapter(self.base, self._resting[0])
                self._resting = None
        for request in ended:
            if not request.future.set_running_or_notify_cancel():
                continue
            if isinstance(request.outcome, BaseException):
                request.future.set_exception(request.outcome)
            elif request.outcome is not None:
                request.future.set_result(request.outcome)

    def _lane_of(self, request: Request) -> str:
        """Rows that can share a batch share a lane; lanes take turns."""
        return "" if request.adapter is None or can_mix(self.base, request.adapter) else request.adapter

    @property
    def _traits(self) -> Traits:
        return find_traits(self.base, self._run)


def _source(request: Request) -> tuple[str | None, int]:
    """What a cache was computed with."""
    return request.adapter, request.version
