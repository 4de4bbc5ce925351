"""What a resident holds: the base, the adapters it knows by name, and what its jobs came to."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.resident.jobs import Job, Queue

if TYPE_CHECKING:
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

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(self.weights.encode() + self.logits).hexdigest()


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
        current: the job that has the model.
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
    current: Job | None = None
    serving: str = ""
    name: str = ""
    changed: str = ""
    quitting: bool = False
    trained: dict[str, Path] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    _numbering: threading.Lock = field(default_factory=threading.Lock)

    def new_job(self, line: str, client: str = "prompt") -> Job:
        """Return a new entry for a line.

        Args:
            line: as it was given.
            client: who gave it.
        """
        with self._numbering:
            job = Job(len(self.jobs) + 1, line, client)
            self.jobs.append(job)
        return job

    def should_stop(self) -> bool:
        """Whether the job that has the model is to end."""
        return self.current is not None and self.current.cancelled()

    @property
    def adapters(self) -> dict[str, Path]:
        """Every adapter that is known by a name: attached ones, and those trained here."""
        return self.trained | self.base.adapters.folders

    def name_for(self, folder: Path) -> str:
        """Return a free name for an adapter, its folder's with a number where that is taken."""
        # PEFT joins names to module paths with dots.
        stem = folder.absolute().name.replace(".", "-") or "adapter"
        taken = {name for name, path in self.adapters.items() if path != folder} | {"base"}
        names = (stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3)))
        return next(name for name in names if name not in taken)

    def folder_of(self, name: str) -> Path:
        """Return the folder of a known adapter.

        Raises:
            UsageError: no adapter of that name is known.
        """
        try:
            return self.adapters[name]
        except KeyError:
            known = ", ".join(self.adapters) or "none"
            raise UsageError(f"adapter {name}: not known here. Known: {known}. Load one: load DIR.") from None


def probe(base: Base) -> Probe:
    """Return the checksum of a base's weights and its logits on a fixed stretch of tokens, without any adapter."""
    import torch

    from tiararodney.sekft.model import use_adapter, weights_checksum

    size = int(base.model.config.vocab_size)
    # A multiplicative walk touches embeddings all over the vocabulary.
    ids = torch.tensor([[(7919 * i + 13) % size for i in range(1, _PROBE_TOKENS + 1)]], device=base.device)
    with base.lock:
        with use_adapter(base, None), torch.inference_mode():
            logits = base.model(input_ids=ids, use_cache=False).logits
        data = logits.float().contiguous().cpu().numpy().tobytes()
        return Probe(weights_checksum(base), data, exact=base.device == "cpu")
