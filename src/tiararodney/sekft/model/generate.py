"""Continuous batching: prompts join the running batch as they come and leave it as they end.

One thread owns the model while there is work. Whoever wants a reply submits a prompt from any thread and gets a handle:

    generator = Generator(base, max_batch=16)
    handle = generator.submit(prompt_ids, Sampling(max_new_tokens=64, stop_ids=stops), adapter="tuned", key="session 7")
    for token in handle: ...            # as they come
    reply = handle.result()             # Generated: ids, finish, logprobs, cached_tokens
    handle.cancel()

- **Turns.** The KV cache of a finished reply is kept, least recently used dropped first. A later prompt of the same
  adapter that begins with the same tokens, as a session's next turn does, computes only what is new. Where a layer
  cannot go back to a shorter prefix (a sliding window that has dropped tokens, a recurrent state) the cache serves
  exact continuations only, else the prompt is computed anew. Replies are the same either way.
- **Adapters.** Rows of the base and of several adapters share a batch (PEFT's `adapter_names`) where the adapters are
  of a kind that PEFT can mix, else they take turns. `adapter` names one that `attach_adapter` has put on the base.
- **Draws** depend on (seed, key, position in the reply), never on the prompt or on the batch: give every scenario and
  sample a key of its own.
- **Memory.** Caches of running and finished rows stay within `kv_gib`; where memory runs out all the same, the batch
  is halved and its rows are computed again. Long prompts go in chunks, decoding goes on between them.
- **Other work on the model** (training, attaching and detaching adapters) takes `base.lock`; the generator takes it for
  one step at a time. `forget` drops the kept caches, for when an adapter's weights have changed in place.
"""

from __future__ import annotations

import inspect
import logging
import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.model.adapters import can_mix, switch_adapter
from tiararodney.sekft.model.batch import Batch, Prefill, Request, can_share
from tiararodney.sekft.model.memory import free_memory, is_out_of_memory, release_memory
from tiararodney.sekft.model.prefixes import PrefixCache
from tiararodney.sekft.model.sampling import Sampling, Token, choose, draw
from tiararodney.sekft.model.traits import Traits, find_traits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tiararodney.sekft.model.base import Base
    from tiararodney.sekft.model.kv import Row

log = logging.getLogger(__name__)

KV_SHARE = 0.5  # of the memory that is free when the first prompt comes
# Tokens that go through the model at once. On a CPU few: a signal waits for the chunk at hand.
CHUNK = {"cpu": 256, "cuda": 8192}
# Tokens that a shared block may waste on padding: a share of those that are needed, and a few in any case.
PADDING_SHARE = 0.5
PADDING_LEAST = 64
IDLE = 0.5  # seconds without work after which the thread ends
LEAST_CHUNK = 64
Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Generated:
    """One reply.

    Attributes:
        ids: The new token ids, without the stop token.
        finish: "stop": a stop token, or `on_token`, ended it; "length": the limit did; "cancelled".
        tokens: The same tokens with their log-probabilities, where those were asked for.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: How many of these were found in a cache.
    """

    ids: list[int]
    finish: Finish
    tokens: tuple[Token, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def stopped(self) -> bool:
        """Whether it ended by itself; False means that the limit cut it off."""
        return self.finish == "stop"


Outcome = Generated | BaseException


class Handle:
    """A reply on its way. Iterating gives its tokens as they come, the stop token excepted.

    Attributes:
        future: Its result; use `add_done_callback` from an event loop.
    """

    def __init__(self, on_token: Callable[[Token], bool | None] | None) -> None:
        self.future: Future[Generated] = Future()
        self.cancelled = False
        self._on_token = on_token
        self._tokens: queue.SimpleQueue[Token | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Token]:
        while (token := self._tokens.get()) is not None:
            yield token
        self.future.result()

    def result(self, timeout: float | None = None) -> Generated:
        """Wait for the reply.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Returns:
            The reply.

        Raises:
            TimeoutError: It takes longer.
            RunFailed: Memory does not suffice for this prompt, or the model failed.
            UsageError: Its adapter was taken off the base meanwhile.
        """
        return self.future.result(timeout)

    def cancel(self) -> None:
        """End the reply after the current step; what there is becomes the result."""
        self.cancelled = True

    def give(self, token: Token) -> bool:
        """Hand a token out; return whether the reader wants no more. Called by the generator."""
        self._tokens.put(token)
        return bool(self._on_token is not None and self._on_token(token))

    def end(self, outcome: Outcome) -> None:
        """Set the result. Called by the generator."""
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
        self._tokens.put(None)


class Generator:
    """Generates with a base and its adapters, for any number of threads. See the module's docstring.

    Args:
        base: The base.
        max_batch: How many rows go through the model together.
        kv_gib: Memory for the caches of running and finished rows, in GiB; None takes half of what is free when the
            first prompt comes.
        keep: Whether the caches of finished replies are kept for prompts that go on from them.
        chunk: Tokens that go through the model at once; None takes 256 on a CPU, 8192 on a GPU.
    """

    def __init__(
        self,
        base: Base,
        *,
        max_batch: int = 64,
        kv_gib: float | None = None,
        keep: bool = True,
        chunk: int | None = None,
    ) -> None:
        self.base = base
        self._config = base.model.config
        self._limit, self._keep = max_batch, keep
        self._kv_memory = None if kv_gib is None else int(kv_gib * 2**30)
        self._chunk = chunk or CHUNK.get(torch.device(base.device).type, CHUNK["cuda"])
        self._kept = PrefixCache()
        self._waiting: deque[Request] = deque()
        self._handles: dict[Request, Handle] = {}
        self._prefill: tuple[str, Prefill] | None = None
        self._lanes: dict[str, Batch] = {}
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
    ) -> Handle:
        """Ask for the continuation of a prompt; return at once.

        Args:
            prompt: Token ids, at least one.
            sampling: How the reply is drawn.
            adapter: The name of an attached adapter; None for the base alone.
            key: Names the draws: one for every scenario and sample.
            on_token: Called in the generator's thread with every token but a stop token; returns True to end the reply
                (a stop string). Must not block.

        Returns:
            The reply's handle.

        Raises:
            UsageError: The prompt is empty or has ids beyond the embedding, or no such adapter is attached.
        """
        return self._submit([(prompt, adapter, key, on_token)], sampling)[0]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        stop_ids: Collection[int],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        *,
        keys: Sequence[str] | None = None,
    ) -> list[Generated]:
        """Continue every prompt with the adapter that is in use, and wait for all.

        Args:
            prompts: Token ids, ragged.
            stop_ids: Tokens that end a reply.
            max_new_tokens: The limit of a reply, in tokens.
            temperature: 0 is greedy; above, samples are drawn from the softmax at this temperature.
            seed: Seed of the draws.
            keys: Names of each prompt's draws; its number where None.

        Returns:
            One reply a prompt, in order.
        """
        sampling = Sampling(max_new_tokens, temperature, seed=seed, stop_ids=frozenset(stop_ids))
        names = keys or [str(number) for number in range(len(prompts))]
        active = self.base.adapters.active
        handles = self._submit([(p, active, name, None) for p, name in zip(prompts, names, strict=True)], sampling)
        return [handle.result() for handle in handles]

    def cancel(self) -> None:
        """End every reply after the current step; what there is of each becomes its result."""
        with self._changed:
            for handle in self._handles.values():
                handle.cancel()

    def forget(self) -> None:
        """Drop the caches of finished replies."""
        with self.base.lock:
            self._kept.clear()

    # ---- from here on: called by the thread only, but for `_submit`

    def _submit(
        self,
        asked: Sequence[tuple[Sequence[int], str | None, str, Callable[[Token], bool | None] | None]],
        sampling: Sampling,
    ) -> list[Handle]:
        size = self.base.model.get_input_embeddings().weight.shape[0]
        handles = {}
        for prompt, adapter, key, on_token in asked:
            if not prompt:
                raise UsageError("found a prompt without tokens, expected at least one token id.")
            if not 0 <= min(prompt) <= max(prompt) < size:
                raise UsageError(f"found token id {max(prompt)}, but {self.base.path} has embeddings for {size} ids.")
            version = self.base.adapters.version(adapter)
            if version is None:
                raise UsageError(f"no adapter {adapter!r} is attached. Attach it first.")
            request = Request(list(prompt), sampling, adapter, key, version)
            handles[request] = Handle(on_token)
        with self._changed:
            self._handles |= handles
            self._waiting.extend(handles)
            if self._thread is None and handles:
                # Python waits for it at the end; a daemon is killed there, and inside torch that aborts the process.
                self._thread = threading.Thread(target=self._work, name="sekft-generator", daemon=False)
                self._thread.start()
            self._changed.notify()
        return list(handles.values())

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._handles, IDLE):
                    self._thread = None
                    return
            with self.base.lock, torch.inference_mode():
                try:
                    self._end(self._step())
                except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who wait
                    self._reset()
                    self._end(dict.fromkeys(self._handles, _as_ours(error)))

    def _step(self) -> dict[Request, Outcome]:
        """Admit, then put one chunk of prompts and one token of every running row through the model."""
        if self._resting is None:
            self._resting = (self.base.adapters.active,)
        outcomes = self._sweep()
        try:
            self._admit()
            if self._prefill is not None:
                lane, prefill = self._prefill
                chunk = self._chunk if self._traits.extends else prefill.block * len(prefill.requests)
                if (logits := prefill.advance(self._run, chunk)) is not None:
                    self._prefill = None
                    self._lane(lane).join(prefill)
                    outcomes |= self._accept(prefill.requests, logits)
            for batch in self._lanes.values():
                self._retire(batch, outcomes)
                if batch.requests:
                    outcomes |= self._accept(batch.requests, batch.decode(self._run))
                    self._retire(batch, outcomes)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return outcomes
        return outcomes | self._shrink(outcomes)  # outside of the handler, whose traceback holds tensors

    def _sweep(self) -> dict[Request, Outcome]:
        """End what was cancelled, what lost its adapter, and everything once Python exits."""
        outcomes: dict[Request, Outcome] = {}
        with self._changed:
            for request, handle in self._handles.items():
                if self.base.adapters.version(request.adapter) != request.version:
                    outcomes[request] = UsageError(f"adapter {request.adapter!r} was taken off the base meanwhile.")
                elif handle.cancelled or not threading.main_thread().is_alive():
                    outcomes[request] = _generated(request, "cancelled")
            self._waiting = deque(request for request in self._waiting if request not in outcomes)
        if self._prefill is not None and any(request in outcomes for request in self._prefill[1].requests):
            self._requeue(self._prefill[1].requests, outcomes)  # the others start again
            self._prefill = None
        return outcomes

    def _admit(self) -> None:
        """Start on the oldest request, and on those behind it that can be prefilled in one block with it."""
        if self._prefill is not None or not self._waiting:
            return
        name = self._lane_of(self._waiting[0])
        batch = self._lane(name)
        group = self._group([request for request in self._waiting if self._lane_of(request) == name], batch)
        requests = [request for request, _ in group]
        with self._changed:
            self._waiting = deque(request for request in self._waiting if request not in requests)
        if not self._traits.cached:
            batch.start(requests)
        elif requests:
            self._prefill = (name, Prefill(self._config, requests, [prefix for _, prefix in group], self.base.device))
            for request in requests:
                self._kept.drop_prefixes(_source(request), request.ids)

    def _group(self, waiting: Sequence[Request], batch: Batch) -> list[tuple[Request, Row | None]]:
        """Choose what goes into one block, each with the kept cache of a prefix of it."""
        group: list[tuple[Request, Row | None]] = []
        free = (self._limit if self._traits.batches else 1) - len(batch.requests)
        for request in waiting:
            prefix = self._kept.find(_source(request), request.ids) if self._traits.extends else None
            if len(group) >= free or not self._fit_memory(batch, [*(r for r, _ in group), request]):
                break
            if self._fit_together([*group, (request, prefix)]):
                group.append((request, prefix))
        return group

    def _fit_together(self, group: Sequence[tuple[Request, Row | None]]) -> bool:
        sizes = [(len(request.ids), prefix) for request, prefix in group]
        new = [length - (prefix.length if prefix else 0) for length, prefix in sizes]
        if max(new) * len(new) - sum(new) > PADDING_SHARE * sum(new) + PADDING_LEAST:
            return False
        return all(can_share(one, sizes[-1], recurrent=self._traits.recurrent) for one in sizes[:-1])

    def _fit_memory(self, batch: Batch, group: Sequence[Request]) -> bool:
        """Whether running and new rows fit; finished ones are dropped for them. A row alone may always try."""
        running = [request for lane in self._lanes.values() for request in lane.requests]
        joined = [*batch.requests, *group]
        widths = [max(r.limit for r in joined)] * len(joined) + [r.limit for r in running if r not in batch.requests]
        needed = sum(self._traits.fixed + width * self._traits.per_token for width in widths)
        if self._kv_memory is None:
            self._kv_memory = int(KV_SHARE * free_memory(self.base.device))
            log.debug("KV cache of at most %.1f GiB", self._kv_memory / 2**30)
        self._kept.shrink(max(self._kv_memory - needed, 0))
        return needed <= self._kv_memory or len(joined) == 1

    def _accept(self, requests: Sequence[Request], logits: torch.Tensor) -> dict[Request, Outcome]:
        """Draw the next token of every row and hand it out."""
        outcomes: dict[Request, Outcome] = {}
        draws = [draw(r.sampling.seed, r.key, len(r.reply)) if r.sampling.temperature > 0 else 0.0 for r in requests]
        for request, token in zip(requests, choose(logits, [r.sampling for r in requests], draws), strict=True):
            if token.id in request.sampling.stop_ids:
                outcomes[request] = _generated(request, "stop")
                continue
            request.reply.append(token)
            try:
                enough = self._handles[request].give(token)
            except Exception as error:  # noqa: BLE001 - a reader's fault ends its own reply only
                outcomes[request] = error
                continue
            if enough or len(request.reply) >= request.sampling.max_new_tokens:
                outcomes[request] = _generated(request, "stop" if enough else "length")
        return outcomes

    def _retire(self, batch: Batch, outcomes: Collection[Request]) -> None:
        """Take rows that have ended out of a batch and keep their caches."""
        for request in [request for request in batch.requests if request in outcomes]:
            keep = self._keep and self._traits.extends
            if (row := batch.leave(request, keep=keep)) is not None:
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

    def _shrink(self, outcomes: Collection[Request]) -> dict[Request, Outcome]:
        """After memory ran out: drop what is kept, halve the batch or the chunk, and compute its rows again."""
        rows = [request for batch in self._lanes.values() for request in batch.requests]
        rows += self._prefill[1].requests if self._prefill is not None else []
        self._reset()
        release_memory()
        if len(rows) > 1:
            self._limit = len(rows) // 2
        elif self._chunk > LEAST_CHUNK:
            self._chunk //= 2
        else:
            error = RunFailed(
                f"out of memory on {self.base.device} with one prompt of {len(rows[0].ids)} tokens. "
                "Load the base with --load-4bit, or use a device with more memory."
            )
            return {rows[0]: error}
        log.warning("out of memory: at most %d replies at once, %d tokens a chunk", self._limit, self._chunk)
        self._requeue(rows, outcomes)
        return {}

    def _requeue(self, requests: Sequence[Request], outcomes: Collection[Request]) -> None:
        with self._changed:
            self._waiting.extendleft(request for request in reversed(requests) if request not in outcomes)

    def _reset(self) -> None:
        """Drop every cache; what was computed halfway is not to be trusted."""
        self._lanes.clear()
        self._prefill = None
        self._kept.clear()

    def _end(self, outcomes: dict[Request, Outcome]) -> None:
        """Hand results out; with nothing left, the adapter that was in use before is so again."""
        with self._changed:
            handles = [(self._handles.pop(request), outcome) for request, outcome in outcomes.items()]
            self._waiting = deque(request for request in self._waiting if request not in outcomes)
            if not self._handles and self._resting is not None:
                before = self._resting[0]
                switch_adapter(self.base, before if self.base.adapters.version(before) is not None else None)
                self._resting = None
        for handle, outcome in handles:
            handle.end(outcome)

    def _lane_of(self, request: Request) -> str:
        """Rows that can share a batch share a lane."""
        return "" if request.adapter is None or can_mix(self.base, request.adapter) else request.adapter

    @property
    def _traits(self) -> Traits:
        return find_traits(self.base, self._run)

    def _lane(self, name: str) -> Batch:
        return self._lanes.setdefault(name, Batch(self.base.device))


def generate_batch(
    base: Base,
    prompts: Sequence[Sequence[int]],
    stop_ids: Collection[int],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """Continue every prompt once. See `Generator.generate`.

    Args:
        base: The base, with whatever adapter is active.
        prompts: Token ids, ragged.
        stop_ids: Tokens that end a reply.
        max_new_tokens: The limit of a reply, in tokens.
        temperature: 0 is greedy.
        seed: Seed of the draws.

    Returns:
        The new ids of every prompt, without the stop token.
    """
    replies = Generator(base, keep=False).generate(prompts, stop_ids, max_new_tokens, temperature, seed)
    return [reply.ids for reply in replies]


def _source(request: Request) -> tuple[str | None, int]:
    """What a cache was computed with."""
    return request.adapter, request.version


def _generated(request: Request, finish: Finish) -> Generated:
    tokens = tuple(request.reply)
    return Generated([token.id for token in tokens], finish, tokens, len(request.prompt), request.cached_tokens)


def _as_ours(error: Exception) -> Exception:
    if isinstance(error, SekftError):
        return error
    failed = RunFailed(f"the model failed while generating: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
