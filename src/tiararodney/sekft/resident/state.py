"""What a resident holds: the base, the adapters it knows by name, its jobs and whose turn it is."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.console import DONE, INTERRUPTED
from tiararodney.sekft.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tiararodney.sekft.model import Base, Generator

_PROBE_TOKENS = 48
WAIT = 0.02  # seconds between two looks at whose turn it is
TOLERANCE = 0.01  # of the largest logit, between two passes on a GPU


@dataclass(frozen=True)
class Probe:
    """What tells one state of a base from another."""

    weights: str  # their checksum, see `model.weights_checksum`
    logits: bytes  # float32, on a fixed stretch of tokens, without any adapter
    exact: bool = True  # the device gives the same logits bit for bit each time, as CPUs do

    def agrees(self, other: Probe) -> bool:
        """Whether both are of one state: the same weights, and logits that are the same or, on a GPU, within 1 %."""
        if self.weights != other.weights or len(self.logits) != len(other.logits):
            return False
        if self.exact or self.logits == other.logits:
            return self.logits == other.logits
        import numpy as np

        one, two = (np.frombuffer(probe.logits, np.float32) for probe in (self, other))
        return bool(np.abs(one - two).max() <= TOLERANCE * np.abs(one).max())


@dataclass(eq=False)
class Job:
    """One line that a resident carries out."""

    number: int  # from 1
    line: str
    client: str = "prompt"  # who asked, else such as "process 4711"
    started: bool = False  # its turn has come
    code: int | None = None  # exit code, once it has ended
    seconds: float = 0.0  # without the wait for its turn
    cancelled: bool = False  # somebody wants it to end; jobs ask between steps and replies

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``done``, ``failed`` or ``cancelled``."""
        if self.code is None:
            return "running" if self.started else "queued"
        return {DONE: "done", INTERRUPTED: "cancelled"}.get(self.code, "failed")


@dataclass
class Resident:
    """A hot base and what belongs to it. The one part of the package that changes."""

    base: Base  # loaded once, never changed
    fingerprint: Probe  # of the base when it was loaded
    generator: Generator  # samples from the base and its adapters, for all who ask
    queue: list[Job] = field(default_factory=list)  # the job whose turn it is, then those that wait
    serving: str = ""  # the URL of the endpoint, empty where nothing is served
    name: str = ""  # of the socket that other terminals reach it by, empty where there is none
    changed: str = ""  # why the base is no longer what it was, empty where it is
    quitting: bool = False  # a line asked for the end
    trained: dict[str, Path] = field(default_factory=dict)  # adapters that jobs here wrote, by name
    jobs: list[Job] = field(default_factory=list)  # all that were given
    started: float = field(default_factory=time.time)  # seconds since the epoch
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_job(self, line: str, client: str = "prompt") -> Job:
        """Return the entry of a line that a client gave."""
        job = Job(next(self._numbers), line, client)
        self.jobs.append(job)
        return job

    @contextmanager
    def turn(self, job: Job) -> Iterator[None]:
        """Wait for a job's turn, in the order of asking, and hold it.

        Raises:
            KeyboardInterrupt: it was cancelled meanwhile.
        """
        self.queue.append(job)
        began = None
        try:
            while self.queue[0] is not job and not job.cancelled:
                time.sleep(WAIT)
            if job.cancelled:
                raise KeyboardInterrupt
            job.started, began = True, time.monotonic()
            yield
        finally:
            job.seconds = 0.0 if began is None else time.monotonic() - began
            self.queue.remove(job)

    def should_stop(self) -> bool:
        """Whether the job whose turn it is is to end."""
        return any(job.cancelled for job in self.queue[:1])

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


def unchanged(resident: Resident) -> str:
    """Return a line that says that the base's weights and logits are those it was loaded with.

    Raises:
        RunFailed: they differ.
    """
    now, before = probe(resident.base), resident.fingerprint
    if not now.agrees(before):
        what = "logits" if now.weights == before.weights else "weights"
        raise RunFailed(
            f"the base is no longer what it was: its {what} differ from those at the start. No result after this point "
            "would mean anything: start the resident again."
        )
    return f"bit for bit as at the start (sha256 {now.weights[:16]})"


def put_away(resident: Resident) -> None:
    """Give back what a job has left behind in memory."""
    from tiararodney.sekft.model.memory import release_memory

    if resident.base.adapters.handle is None:
        resident.generator.forget()
    release_memory()
