"""What an evaluation shows while it runs: a table on a terminal, a line for each finished session in a pipe."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tiararodney.sekft.eval.failures import failure
from tiararodney.sekft.eval.rates import RATES, rates
from tiararodney.sekft.eval.report import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.worlds import Job

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
"""In a pipe, a line says what is going on when no session has finished for so long."""
_SHOWN = 6


class Watch(Protocol):
    """Is told how an evaluation goes; `turn` is called from the sessions' threads."""

    def turn(self, job: Job, n: int) -> None:
        """Note that a session asks for its n-th reply."""
        ...

    def finished(self, job: Job, episode: Episode) -> None:
        """Note that a session has ended."""
        ...


class State:
    """How an evaluation goes: what is done, what each open session is doing, how long the rest may take.

    Args:
        todo: the sessions to play.
        models: contestants whose rates are shown, in order.
        played: episodes of an earlier run that count in the rates.
    """

    def __init__(self, todo: Sequence[Job], models: Sequence[str], played: Iterable[Episode]) -> None:
        self.total, self.done, self.broken = len(todo), 0, 0
        self.begun = time.monotonic()
        self.open: dict[tuple[str, str, int], tuple[int, float]] = {}
        self.episodes: dict[str, list[Episode]] = {m: [] for m in models}
        self.lock = threading.Lock()
        for e in played:
            self._count(e)

    def _count(self, e: Episode) -> None:
        if e.model in self.episodes and not e.infrastructure:
            self.episodes[e.model].append(e)

    def turn(self, job: Job, n: int) -> None:
        """Note that a session asks for its n-th reply."""
        with self.lock:
            self.open[job.model, job.scenario.id, job.sample] = (n, time.monotonic())

    def finished(self, job: Job, episode: Episode) -> None:
        """Note that a session has ended."""
        with self.lock:
            self.open.pop((job.model, job.scenario.id, job.sample), None)
            self.done += 1
            self.broken += bool(episode.infrastructure)
            self._count(episode)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time left, from the pace so far; None before the first session has ended."""
        spent = time.monotonic() - self.begun
        return spent / self.done * (self.total - self.done) if self.done else None

    def summary(self) -> str:
        """Return one line: sessions done, success so far, time left."""
        with self.lock:
            parts = [f"{self.done}/{self.total} sessions"]
            parts += [f"{m} success {sum(e.keep for e in es)}/{len(es)}" for m, es in self.episodes.items() if es]
            if self.open:
                furthest = max(n for n, _ in self.open.values())
                parts.append(f"{len(self.open)} open, furthest at turn {furthest}")
            if self.broken:
                parts.append(f"{self.broken} infrastructure errors")
        left = self.seconds_left
        return " · ".join(parts + ([] if left is None else [f"about {duration(left)} left"]))


def duration(seconds: float | None) -> str:
    """Write a time as ``12 s``, ``3:05`` or ``1:03:05``, a question mark where it is unknown."""
    if seconds is None:
        return "?"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def watching(todo: Sequence[Job], models: Sequence[str], played: Iterable[Episode]) -> Iterator[Watch]:
    """Show how a run goes until the block is left: a live table on a terminal, log lines elsewhere."""
    state = State(todo, models, played)
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        with _table(state):
            yield state
    else:
        with _lines(state) as watch:
            yield watch


@contextmanager
def _lines(state: State) -> Iterator[Watch]:
    """Log each finished session, and a summary where nothing has finished for a while."""
    over = threading.Event()
    said = [time.monotonic()]

    class Lines:
        turn = state.turn

        def finished(self, job: Job, episode: Episode) -> None:
            state.finished(job, episode)
            said[0] = time.monotonic()
            if job.model in state.episodes:
                result = "infrastructure error" if episode.infrastructure else failure(episode) or "success"
                log.info("%s: %s %s after %d commands", state.summary(), job.model, result, episode.commands)

    def remind() -> None:
        while not over.wait(1.0):
            if time.monotonic() - said[0] >= QUIET_SECONDS:
                said[0] = time.monotonic()
                log.info("%s", state.summary())

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield Lines()
    finally:
        over.set()
        reminder.join()


@contextmanager
def _table(state: State) -> Iterator[None]:
    """Draw a table of rates and of what the open sessions are doing, twice a second."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, get_renderable=lambda: drawn(state), refresh_per_second=2, transient=True):
        yield


def drawn(state: State) -> RenderableType:
    """Return the table of the moment."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    with state.lock:
        sessions = sorted(state.open.items(), key=lambda item: item[1][1])
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("so far")
        for model in state.episodes:
            table.add_column(model, justify="right")
        found = {m: rates(es) for m, es in state.episodes.items()}
        for name in RATES:
            table.add_row(LABELS[name], *(f"{r[name].k}/{r[name].n}" if r[name].n else "–" for r in found.values()))
        now = time.monotonic()
        lines = [
            f"  {model} {scenario}: turn {n}, {duration(now - since)}"
            for (model, scenario, _), (n, since) in sessions[:_SHOWN]
        ]
        more = len(sessions) - _SHOWN
    lines += [f"  and {more} more"] * (more > 0)
    return Group(Text(state.summary()), table, Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis"))
