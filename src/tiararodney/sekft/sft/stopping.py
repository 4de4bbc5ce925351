"""Ctrl-C and TERM as a question that a run asks between rows."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

log = logging.getLogger(__name__)


@contextmanager
def stopping(should_stop: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and a TERM signal into a question asked between rows; a second one interrupts at once.

    Args:
        should_stop: Another source of the wish to stop.

    Yields:
        Whether to stop.
    """
    asked = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        log.warning("%s: stopping after this row; once more to stop at once", signal.Signals(number).name)

    def stop() -> bool:
        return asked.is_set() or (should_stop is not None and should_stop())

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
