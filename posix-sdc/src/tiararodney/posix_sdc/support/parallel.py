"""One action on many items in threads, which an interrupt ends in order."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
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
    """Run an action on every item in threads, and hand each result over in this one.

    On an error or an interrupt nothing new is begun, what is under way is told to end and handed to nobody (the
    interrupt may have reached it as well), and the error is raised.

    Args:
        jobs: threads.
        items: what to work on, in order.
        action: run once for each item.
        keep: given every result, as they finish.
        abort: makes actions that are under way end soon.
    """
    waiting = iter(items)
    running: set[Future[R]] = set()
    threads = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix=THREADS)
    try:
        running = {threads.submit(action, item) for item in islice(waiting, jobs)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                keep(future.result())
                running |= {threads.submit(action, item) for item in islice(waiting, 1)}
    except BaseException:
        abort()
        threads.shutdown(wait=False, cancel_futures=True)
        stuck = wait(running, timeout=ABORT_SECONDS).not_done
        threads.shutdown(wait=not stuck)
        raise
    threads.shutdown()
