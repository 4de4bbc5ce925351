"""How far a run is: a line on stderr, rewritten on a terminal, every ten per cent or half a minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

_TENTH = 10
_SECONDS, _AT_LEAST = 30.0, 1.0
_MINUTE, _HOUR = 60, 3600


@dataclass
class Progress:
    """Counts what is done.

    Args:
        what: the run.
        total: how much there is to do in it.
    """

    what: str
    total: int
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    _started: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    def step(self, outcome: str = "") -> None:
        """One more is done.

        Args:
            outcome: counted in the line if given.
        """
        self.done += 1
        if outcome:
            self.outcomes[outcome] += 1
        now, last = time.monotonic(), self.done == self.total
        if sys.stderr.isatty():
            print(f"\r\033[K{self.line(now)}", end="\n" if last else "", file=sys.stderr, flush=True)
        elif last or now - self._told > (_SECONDS if self.done % max(1, self.total // _TENTH) else _AT_LEAST):
            self._told = now
            print(self.line(now), file=sys.stderr, flush=True)

    def line(self, now: float) -> str:
        """Return the line: done, rate, time left and outcomes.

        Args:
            now: the time, as `time.monotonic` tells it.
        """
        rate = self.done / max(now - self._started, 1e-9)
        counts = "".join(f", {n} {name}" for name, n in self.outcomes.most_common())
        left = f", {_duration((self.total - self.done) / rate)} left" if self.done < self.total else ""
        speed = f"{rate:.1f} a second" if rate >= 1 else f"{_MINUTE * rate:.1f} a minute"
        return f"{self.what} {self.done}/{self.total}, {speed}{left}{counts}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
