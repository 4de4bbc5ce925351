"""Run one action on many items in threads that an interrupt ends cleanly."""

from __future__ import annotations

import time
from concurrent.futures import Future
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

THREADS = "posix-sdc-each"
ABORT_SECONDS = 5.0  # for what is under way to end after an interrupt
T = TypeVar("T")
R = TypeVar("R")


def each(
    jobs: int,
    items: Iterable[T],
    action: Callable[[T], R],
    keep: Callable[[R], None],
    abort: Callable[[], None] = lambda: None,
) -> None:
    """Run an action on every item in threads and pass each result to this one.

    On an error or an interrupt nothing new is started, running actions are stopped and their results dropped (the
    interrupt may have reached them as well), and the error is raised. An action that does not end within
    `ABORT_SECONDS` (it waits for a server's answer) is left behind: Python does not wait for these threads at exit, as
    it does for those of an executor.

    Args:
        jobs: threads.
        items: what to work on, in order.
        action: run once for each item.
        keep: given every result, as they finish.
        abort: makes actions that are under way end soon.
    """
    tasks: SimpleQueue[tuple[T] | None] = SimpleQueue()
    results: SimpleQueue[Future[R]] = SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            result: Future[R] = Future()
            try:
                result.set_result(action(task[0]))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the whole in the caller's thread
                result.set_exception(error)
            results.put(result)

    waiting, threads, running = iter(items), 0, 0
    try:
        for item in islice(waiting, jobs):
            tasks.put((item,))
            Thread(target=work, name=f"{THREADS}-{threads}", daemon=True).start()
            threads, running = threads + 1, running + 1
        while running:
            result = results.get()
            running -= 1
            keep(result.result())
            for item in islice(waiting, 1):
                tasks.put((item,))
                running += 1
    except BaseException:
        abort()
        _wait(results, running)
        raise
    finally:
        for _ in range(threads):
            tasks.put(None)


def _wait(results: SimpleQueue[Future[R]], running: int) -> None:
    """Wait until what is under way has ended, so long at most."""
    until = time.monotonic() + ABORT_SECONDS
    for _ in range(running):
        try:
            results.get(timeout=max(until - time.monotonic(), 0.0))
        except Empty:
            return
