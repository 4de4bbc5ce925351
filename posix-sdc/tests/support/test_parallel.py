"""Jobs run in threads, results arrive in the caller's, and an interrupt ends the whole in order."""

import subprocess
import sys
import threading
import time

import pytest

from tiararodney.posix_sdc.support.parallel import each


def test_each_runs_everything_in_so_many_threads_and_keeps_in_its_own():
    kept, threads, keepers = [], set(), set()

    def action(item):
        threads.add(threading.get_ident())
        time.sleep(0.002)
        return item * 2

    def keep(result):
        keepers.add(threading.get_ident())
        kept.append(result)

    each(3, list(range(20)), action, keep)
    assert sorted(kept) == list(range(0, 40, 2))
    assert len(threads) <= 3
    assert keepers == {threading.get_ident()}


def test_each_begins_nothing_new_after_an_error():
    begun = []

    def action(item):
        begun.append(item)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        each(2, list(range(100)), action, print)
    assert len(begun) <= 3


def test_each_keeps_nothing_after_an_interrupt():
    kept, begun = [], []

    def keep(result):
        kept.append(result)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        each(4, list(range(100)), lambda item: begun.append(item) or item, keep)
    assert len(kept) == 1
    assert len(begun) <= 5


def test_each_of_nothing_is_done():
    each(2, [], str, print)


def test_each_waits_after_an_interrupt_for_what_is_aborted():
    stopping, ended = threading.Event(), []

    def action(item):
        if item == 0:
            raise KeyboardInterrupt
        stopping.wait(30)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        each(3, range(3), action, print, stopping.set)
    assert sorted(ended) == [1, 2]


def test_an_action_that_never_ends_does_not_hold_up_the_end():
    """As a request that a server answers after minutes, or never."""
    code = (
        "import threading\nfrom tiararodney.posix_sdc.support import parallel\nparallel.ABORT_SECONDS = 0.2\n"
        "def action(item):\n    if item: threading.Event().wait(60)\n    raise KeyboardInterrupt\n"
        "parallel.each(2, [1, 0], action, print)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert "KeyboardInterrupt" in done.stderr
    assert time.monotonic() - began < 30
