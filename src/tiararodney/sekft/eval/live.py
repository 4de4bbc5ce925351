"""What an evaluation shows while it runs: a table on a terminal, a line for each finished session in a pipe."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from tiararodney.sekft.console import aligned
from tiararodney.sekft.eval.outcomes import LABELS, counted, rates, result
from tiararodney.sekft.eval.report import count_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Group

    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.worlds import Job

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
"""In a pipe, a line says what is going on when no session has finished for so long."""
_SHOWN = 6


class Watch:
    """How an evaluation goes: what is done, what each open session is doing, how long the rest may take.

    Shows the rates of `models`, with those `played` by an earlier run; `lines` logs each session that finishes.
    """

    def __init__(
        self, todo: Sequence[Job], models: Sequence[str], played: Sequence[Episode], *, lines: bool = False
    ) -> None:
        self.total, self.done, self.broken, self.lines = len(todo), 0, 0, lines
        self.begun = self.logged = time.monotonic()
        self.open: dict[tuple[str, str, int], tuple[int, float]] = {}
        self.episodes = {m: [e for e in counted(played) if e.model == m] for m in models}
        self.lock = threading.Lock()

    def turn(self, job: Job, n: int) -> None:
        """Note that a session asks for its n-th reply; called from the sessions' threads."""
        with self.lock:
            self.open[job.key] = (n, time.monotonic())

    def finished(self, episode: Episode) -> None:
        """Note that a session has ended."""
        model = episode.model
        with self.lock:
            self.open.pop(episode.key, None)
            self.done += 1
            self.broken += bool(episode.infrastructure)
            if model in self.episodes:
                self.episodes[model] += counted([episode])
        self.logged = time.monotonic()
        if self.lines and model in self.episodes:
            log.info("%s: %s %s after %d commands", self.summary(), model, result(episode), episode.commands)

    def summary(self) -> str:
        """Return one line: sessions done, success so far, time left at the pace so far."""
        with self.lock:
            parts = [f"{self.done}/{self.total} sessions"]
            parts += [f"{m} success {sum(e.keep for e in es)}/{len(es)}" for m, es in self.episodes.items() if es]
            if self.open:
                furthest = max(n for n, _ in self.open.values())
                parts.append(f"{len(self.open)} open, furthest at turn {furthest}")
            if self.broken:
                parts.append(f"{self.broken} infrastructure errors")
            if self.done:
                left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
                parts.append(f"about {timedelta(seconds=round(left))} left")
        return " · ".join(parts)

    def table(self) -> Group:
        """Return the table of the moment: the rates, and the sessions that wait longest."""
        from rich.console import Group
        from rich.text import Text

        with self.lock:
            sessions = sorted(self.open.items(), key=lambda item: item[1][1])
            found = [rates(es) for es in self.episodes.values()]
        rows = [["so far", *self.episodes]]
        rows += [[label, *(count_text(asdict(r[name])) for r in found)] for name, label in LABELS.items()]
        now = time.monotonic()
        doing = [f"  {model} {name}: turn {n}, {now - at:.0f} s" for (model, name, _), (n, at) in sessions[:_SHOWN]]
        doing += [f"  and {len(sessions) - _SHOWN} more"] * (len(sessions) > _SHOWN)
        return Group(
            Text("\n".join([self.summary(), *aligned(rows)])),
            Text("\n".join(doing), style="dim", no_wrap=True, overflow="ellipsis"),
        )


@contextmanager
def watching(todo: Sequence[Job], models: Sequence[str], played: Sequence[Episode]) -> Iterator[Watch]:
    """Show how a run goes until the block is left: a live table on a terminal, log lines elsewhere."""
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        from rich.console import Console
        from rich.live import Live

        watch = Watch(todo, models, played)
        with Live(console=Console(stderr=True), get_renderable=watch.table, refresh_per_second=2, transient=True):
            yield watch
        return
    watch, over = Watch(todo, models, played, lines=True), threading.Event()

    def remind() -> None:
        while not over.wait(1.0):
            if time.monotonic() - watch.logged >= QUIET_SECONDS:
                watch.logged = time.monotonic()
                log.info("%s", watch.summary())

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield watch
    finally:
        over.set()
        reminder.join()
