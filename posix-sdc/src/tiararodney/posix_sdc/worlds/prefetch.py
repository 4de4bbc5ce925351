"""Opens the worlds of the next scenarios while sessions run."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.protocol import World

    Opener = Callable[[Scenario], AbstractContextManager[World]]


class Ahead:
    """Worlds opened in advance; leaving the context closes unused ones.

    Args:
        opener: opens a world, as `open_world` does.
        scenarios: in the order in which they will be taken, roughly.
        width: worlds that are open, or being opened, beyond those that were taken.
    """

    def __init__(self, opener: Opener, scenarios: Iterable[Scenario], width: int) -> None:
        self._opener, self._next, self._width = opener, iter(scenarios), width
        self._open: deque[tuple[str, Future[tuple[World, ExitStack]]]] = deque()
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(max(width, 1), thread_name_prefix="posix-sdc-ahead")

    def __enter__(self) -> Self:
        with self._lock:
            self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            left = [waiting for _, waiting in self._open]
            self._open.clear()
        for waiting in left:
            if not waiting.cancelled():
                with contextlib.suppress(Exception):  # whatever its bundle caused: nobody asked for this world
                    waiting.result()[1].close()
        self._threads.shutdown()

    @contextlib.contextmanager
    def world(self, scenario: Scenario) -> Iterator[World]:
        """Return a scenario's world, opened in advance or now.

        Raises:
            SchemaError: the scenario cannot be stood up.
            InfrastructureError: the runtime failed.
        """
        with self._lock:
            # A scenario may be played several times, so an id may stand here more than once.
            found = next((entry for entry in self._open if entry[0] == scenario.id), None)
            if found:
                self._open.remove(found)
            self._fill()
        world, stack = found[1].result() if found else self._enter(scenario)
        with stack:
            yield world

    def _enter(self, scenario: Scenario) -> tuple[World, ExitStack]:
        stack = ExitStack()
        return stack.enter_context(self._opener(scenario)), stack

    def _fill(self) -> None:
        while len(self._open) < self._width:
            scenario = next(self._next, None)
            if scenario is None:
                return
            self._open.append((scenario.id, self._threads.submit(self._enter, scenario)))
