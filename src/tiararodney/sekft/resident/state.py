"""What a resident holds: the base, the adapters it knows by name, its jobs and whose turn it is."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.console import DONE, INTERRUPTED
from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tiararodney.sekft.model import Base, Generator

_PROBE_TOKENS = 48
TOLERANCE = 0.01  # of the largest logit, between two passes on a GPU


@dataclass(frozen=True)
class Probe:
    """What tells one state of a base from another.

    Args:
        weights: checksum of its weights; see `model.weights_checksum`.
        logits: bytes of float32 logits on a fixed stretch of tokens, without any adapter.
        exact: whether the device gives the same logits bit for bit each time, as CPUs do.
    """

    weights: str
    logits: bytes
    exact: bool = True

    def agrees(self, other: Probe) -> bool:
        """Whether both are of one state: the same weights, and logits that are the same or, on a GPU, within 1 %."""
        if self.weights != other.weights or len(self.logits) != len(other.logits):
            return False
        if self.exact or self.logits == other.logits:
            return self.logits == other.logits
        import numpy as np

        one, two = (np.frombuffer(probe.logits, np.float32) for probe in (self, other))
        return bool(np.abs(one - two).max() <= TOLERANCE * np.abs(one).max())


@dataclass
class Job:
    """One line that a resident carries out.

    Args:
        number: from 1.
        line: as it was given.
        client: who asked, such as ``prompt`` or ``process 4711``.
        started: whether its turn has come.
        code: its exit code, None until it has ended.
        seconds: how long it took, the wait for its turn not counted.
        cancelled: somebody wants it to end; jobs ask between steps and replies.
    """

    number: int
    line: str
    client: str = "prompt"
    started: bool = False
    code: int | None = None
    seconds: float = 0.0
    cancelled: bool = False

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``done``, ``failed`` or ``cancelled``."""
        if self.code is None:
            return "running" if self.started else "queued"
        return {DONE: "done", INTERRUPTED: "cancelled"}.get(self.code, "failed")

    @property
    def failed(self) -> bool:
        """Whether it ended with an exit code other than 0."""
        return bool(self.code)


class Queue:
    """Hands out turns: one job at a time, in the order of asking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Job] = []

    @property
    def jobs(self) -> list[Job]:
        """The job whose turn it is, then those that wait."""
        with self._changed:
            return list(self._waiting)

    @contextmanager
    def turn(self, job: Job) -> Iterator[None]:
        """Wait for a job's turn and hold it.

        Raises:
            KeyboardInterrupt: it was cancelled meanwhile.
        """
        with self._changed:
            self._waiting.append(job)
        began = None
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting[0] is job or job.cancelled)
            if job.cancelled:
                raise KeyboardInterrupt
            job.started, began = True, time.monotonic()
            yield
        finally:
            job.seconds = 0.0 if began is None else time.monotonic() - began
            with self._changed:
                self._waiting.remove(job)
                self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """Have a job end: at once while it waits, else after its current step or reply."""
        with self._changed:
            job.cancelled = True
            self._changed.notify_all()

    def find(self, number: str) -> Job:
        """Return the job of a number; of none the one that is running.

        Raises:
            UsageError: no such job waits or runs.
        """
        jobs = self.jobs
        for job in jobs:
            if number in ("", str(job.number)):
                return job
        there = ", ".join(str(job.number) for job in jobs) or "none"
        raise UsageError(f"found no job {number or 'that runs'}. Running or waiting: {there}.")


@dataclass
class Resident:
    """A hot base and what belongs to it. The one part of the package that changes.

    Args:
        base: loaded once, never changed.
        fingerprint: of the base when it was loaded; see `probe`.
        generator: samples from the base and its adapters, for all who ask.
        trained: adapters that this resident's own jobs wrote, by name.
        jobs: what was carried out so far, and what waits.
        queue: whose turn it is.
        serving: the URL of the endpoint, empty where nothing is served.
        name: of the socket that other terminals reach it by, empty where there is none.
        changed: why the base is no longer what it was, empty where it is.
        quitting: a line asked for the end.
        started: when the base was loaded, in seconds since the epoch.
    """

    base: Base
    fingerprint: Probe
    generator: Generator
    queue: Queue = field(default_factory=Queue)
    serving: str = ""
    name: str = ""
    changed: str = ""
    quitting: bool = False
    trained: dict[str, Path] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_job(self, line: str, client: str = "prompt") -> Job:
        """Return a new entry for a line that a client gave."""
        job = Job(next(self._numbers), line, client)
        self.jobs.append(job)
        return job

    def should_stop(self) -> bool:
        """Whether the job whose turn it is is to end."""
        return any(job.cancelled for job in self.queue.jobs[:1])

    @property
    def adapters(self) -> dict[str, Path]:
        """Every adapter that is known by a name: attached ones, and those trained here."""
        return self.trained | self.base.adapters.folders

    def name_for(self, folder: Path) -> str:
        """Return a free name for an adapter, its folder's with a number where that is taken."""
        # PEFT joins names to module paths with dots.
        stem = folder.absolute().name.replace(".", "-") or "adapter"
        taken = {name for name, path in self.adapters.items() if path != folder} | {"base"}
        return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3))) if name not in taken)


def probe(base: Base) -> Probe:
    """Return the checksum of a base's weights and its logits on a fixed stretch of tokens, without any adapter."""
    import torch

    from tiararodney.sekft.model import use_adapter, weights_checksum
    from tiararodney.sekft.model.fingerprint import probe_ids

    size = int(base.model.config.vocab_size)
    ids = torch.tensor([probe_ids(size, _PROBE_TOKENS)], device=base.device)
    with base.lock:
        with use_adapter(base, None), torch.inference_mode():
            logits = base.model(input_ids=ids, use_cache=False).logits
        data = logits.float().contiguous().cpu().numpy().tobytes()
        return Probe(weights_checksum(base), data, exact=base.device == "cpu")
