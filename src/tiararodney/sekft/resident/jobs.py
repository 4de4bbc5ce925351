"""The queue of a resident: one job at a time, in the order of asking, each of which can be cancelled."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"


@dataclass
class Job:
    """One line that a resident carries out.

    Args:
        number: from 1.
        line: as it was given.
        client: who asked, such as ``prompt`` or ``process 4711``.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        code: its exit code, once it has ended.
        seconds: how long it took, the wait for its turn not counted.
    """

    number: int
    line: str
    client: str = "prompt"
    state: str = QUEUED
    code: int = 0
    seconds: float = 0.0
    _cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def failed(self) -> bool:
        """Whether it ended with an exit code other than 0."""
        return self.code != 0

    def cancelled(self) -> bool:
        """Whether somebody wants it to end; jobs ask between steps and replies."""
        return self._cancelled.is_set()


class Queue:
    """Hands out turns."""

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
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting[0] is job or job.cancelled())
            if job.cancelled():
                raise KeyboardInterrupt
            job.state, began = RUNNING, time.monotonic()
            try:
                yield
            finally:
                job.seconds = time.monotonic() - began
        finally:
            with self._changed:
                self._waiting.remove(job)
                self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """Have a job end: at once while it waits, else after its current step or reply."""
        job._cancelled.set()  # noqa: SLF001 - its other half
        with self._changed:
            self._changed.notify_all()

    def find(self, number: str | None) -> Job:
        """Return the job of a number, or the one that is running.

        Raises:
            UsageError: no such job waits or runs.
        """
        jobs = self.jobs
        for job in jobs:
            if number is None or str(job.number) == number:
                return job
        there = ", ".join(str(job.number) for job in jobs) or "none"
        raise UsageError(f"cancel: found no job {number or 'that runs'}. Running or waiting: {there}.")
