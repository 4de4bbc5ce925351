"""What a resident holds: the base, the adapters it knows by name, and what its jobs came to."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tiararodney.sekft.model import Base, Generator

_PROBE_TOKENS = 48


@dataclass(frozen=True)
class Job:
    """One line that a resident carried out.

    Args:
        number: from 1.
        line: as it was given.
        failed: it printed an error.
        seconds: how long it took.
    """

    number: int
    line: str
    failed: bool
    seconds: float


@dataclass
class Resident:
    """A hot base and what belongs to it. The one part of the package that changes.

    Args:
        base: loaded once, never changed.
        fingerprint: hash of the base's logits when it was loaded; see `probe`.
        generator: samples from the base and its adapters, for all who ask.
        trained: adapters that this resident's own jobs wrote, by name.
        jobs: what was carried out so far.
        quitting: a line asked for the end.
        started: when the base was loaded, in seconds since the epoch.
    """

    base: Base
    fingerprint: str
    generator: Generator
    quitting: bool = False
    trained: dict[str, Path] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    started: float = field(default_factory=time.time)

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


def probe(base: Base) -> str:
    """Return a hash of the base's logits, without any adapter, on a fixed stretch of tokens, every bit included."""
    import torch

    from tiararodney.sekft.model import use_adapter

    size = int(base.model.config.vocab_size)
    # A multiplicative walk touches embeddings all over the vocabulary.
    ids = torch.tensor([[(7919 * i + 13) % size for i in range(1, _PROBE_TOKENS + 1)]], device=base.device)
    with use_adapter(base, None), torch.inference_mode():
        logits = base.model(input_ids=ids, use_cache=False).logits
    data = logits.contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(data).hexdigest()
