"""Turns, jobs and the fingerprint of a base, without a model."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.resident.state import Job, Probe, Queue, Resident

if TYPE_CHECKING:
    from collections.abc import Callable


def logits(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_turns_come_in_the_order_of_asking() -> None:
    queue, order, threads = Queue(), [], []

    def work(job: Job) -> None:
        with queue.turn(job):
            order.append(job.number)

    with queue.turn(Job(0, "first")):
        for number in range(1, 6):
            threads.append(threading.Thread(target=work, args=(Job(number, "x"),)))
            threads[-1].start()
            wait_until(lambda number=number: len(queue.jobs) == number + 1)  # type: ignore[misc]
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [1, 2, 3, 4, 5]
    assert queue.jobs == []


def test_a_job_that_is_cancelled_while_it_waits_never_runs() -> None:
    queue, waiting, ended = Queue(), Job(2, "x"), threading.Event()

    def work() -> None:
        with pytest.raises(KeyboardInterrupt), queue.turn(waiting):
            pytest.fail("it ran")
        ended.set()

    with queue.turn(Job(1, "first")):
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: len(queue.jobs) == 2)
        queue.cancel(waiting)
        assert ended.wait(10)
        assert [job.number for job in queue.jobs] == [1]
    thread.join()
    assert (waiting.started, waiting.seconds) == (False, 0.0)


def test_a_turn_that_fails_is_given_on_and_timed() -> None:
    queue, job = Queue(), Job(1, "x")
    with suppress(ValueError), queue.turn(job):
        time.sleep(0.02)
        raise ValueError
    assert job.seconds >= 0.02
    with queue.turn(Job(2, "y")):
        assert [j.number for j in queue.jobs] == [2]


def test_a_job_is_found_by_its_number_or_as_the_running_one() -> None:
    queue = Queue()
    with pytest.raises(UsageError, match=r"found no job that runs\. Running or waiting: none"):
        queue.find("")
    with queue.turn(Job(7, "x")):
        assert queue.find("").number == queue.find("7").number == 7
        with pytest.raises(UsageError, match=r"found no job 8\. Running or waiting: 7"):
            queue.find("8")


@pytest.mark.parametrize(
    ("changes", "state", "failed"),
    [
        ({}, "queued", False),
        ({"started": True}, "running", False),
        ({"started": True, "code": 0}, "done", False),
        ({"started": True, "code": 1}, "failed", True),
        ({"code": 2}, "failed", True),
        ({"code": 130}, "cancelled", True),
    ],
)
def test_the_state_of_a_job_follows_from_its_turn_and_its_exit_code(
    changes: dict[str, Any], state: str, failed: bool
) -> None:
    job = Job(1, "x", **changes)
    assert (job.state, job.failed) == (state, failed)


@pytest.mark.parametrize(
    ("other", "agrees"),
    [
        (Probe("w", logits(1, -8)), True),
        (Probe("v", logits(1, -8)), False),
        (Probe("w", logits(1, -8.0001)), False),
        (Probe("w", logits(1)), False),
        (Probe("w", b""), False),
    ],
)
def test_on_a_cpu_every_bit_of_the_logits_counts(other: Probe, agrees: bool) -> None:
    assert Probe("w", logits(1, -8)).agrees(other) is agrees


@pytest.mark.parametrize(("second", "agrees"), [(-8.07, True), (-8.09, False), (-7.93, True), (8, False)])
def test_on_a_gpu_logits_may_differ_by_a_hundredth_of_the_largest(second: float, agrees: bool) -> None:
    one, two = (Probe("w", logits(1, at), exact=False) for at in (-8, second))
    assert one.agrees(two) is agrees
    assert not Probe("v", one.logits, exact=False).agrees(one)


@pytest.fixture
def hollow() -> Resident:
    base: Any = SimpleNamespace(adapters=SimpleNamespace(folders={}))
    return Resident(base, Probe("same", b""), generator=None)  # type: ignore[arg-type]  # no test here generates


def test_only_the_job_whose_turn_it_is_is_asked_to_stop(hollow: Resident) -> None:
    running, waiting = hollow.new_job("one"), hollow.new_job("two")
    assert not hollow.should_stop()
    with hollow.queue.turn(running):
        thread = threading.Thread(target=lambda: _swallow(hollow.queue, waiting))
        thread.start()
        wait_until(lambda: len(hollow.queue.jobs) == 2)
        hollow.queue.cancel(waiting)
        thread.join()
        assert not hollow.should_stop()
        hollow.queue.cancel(running)
        assert hollow.should_stop()
    assert not hollow.should_stop()


def _swallow(queue: Queue, job: Job) -> None:
    with pytest.raises(KeyboardInterrupt), queue.turn(job):
        pass


def test_jobs_are_numbered_from_one_whoever_asks(hollow: Resident) -> None:
    def ask() -> None:
        for _ in range(50):
            hollow.new_job("x", "process 1")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.number for job in hollow.jobs) == list(range(1, 201))


def test_a_taken_name_gets_the_next_free_number(hollow: Resident, tmp_path: Path) -> None:
    for number in range(1, 4):
        name = hollow.name_for(tmp_path / str(number) / "tuned")
        hollow.trained[name] = tmp_path / str(number) / "tuned"
    assert list(hollow.trained) == ["tuned", "tuned-2", "tuned-3"]
    assert hollow.name_for(Path("/")) == "adapter"
