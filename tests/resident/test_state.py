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
from tiararodney.sekft.resident.commands import cancel
from tiararodney.sekft.resident.state import Job, Probe, Resident

if TYPE_CHECKING:
    from collections.abc import Callable


def logits(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_turns_come_in_the_order_of_asking(hollow: Resident) -> None:
    order: list[int] = []
    threads: list[threading.Thread] = []

    def work(job: Job) -> None:
        with hollow.turn(job):
            order.append(job.number)

    with hollow.turn(Job(0, "first")):
        for number in range(1, 6):
            threads.append(threading.Thread(target=work, args=(Job(number, "x"),)))
            threads[-1].start()
            wait_until(lambda number=number: len(hollow.queue) == number + 1)  # type: ignore[misc]
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [1, 2, 3, 4, 5]
    assert hollow.queue == []


def test_a_job_that_is_cancelled_while_it_waits_never_runs(hollow: Resident) -> None:
    waiting, ended = Job(2, "x"), threading.Event()

    def work() -> None:
        with pytest.raises(KeyboardInterrupt), hollow.turn(waiting):
            pytest.fail("it ran")
        ended.set()

    with hollow.turn(Job(1, "first")):
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: len(hollow.queue) == 2)
        waiting.cancelled = True
        assert ended.wait(10)
        assert [job.number for job in hollow.queue] == [1]
    thread.join()
    assert (waiting.started, waiting.seconds) == (False, 0.0)


def test_a_turn_that_fails_is_given_on_and_timed(hollow: Resident) -> None:
    job = Job(1, "x")
    with suppress(ValueError), hollow.turn(job):
        time.sleep(0.02)
        raise ValueError
    assert job.seconds >= 0.02
    with hollow.turn(Job(2, "y")):
        assert [j.number for j in hollow.queue] == [2]


def test_a_job_is_cancelled_by_its_number_or_as_the_running_one(hollow: Resident) -> None:
    with pytest.raises(UsageError, match=r"found no job that runs\. Running or waiting: none"):
        cancel(hollow)
    for number in ("7", ""):
        job = Job(7, "x")
        with hollow.turn(job):
            with pytest.raises(UsageError, match=r"found no job 8\. Running or waiting: 7"):
                cancel(hollow, "8")
            cancel(hollow, number)
            assert job.cancelled


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "queued"),
        ({"started": True}, "running"),
        ({"started": True, "code": 0}, "done"),
        ({"started": True, "code": 1}, "failed"),
        ({"code": 2}, "failed"),
        ({"code": 130}, "cancelled"),
    ],
)
def test_the_state_of_a_job_follows_from_its_turn_and_its_exit_code(changes: dict[str, Any], state: str) -> None:
    assert Job(1, "x", **changes).state == state


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
    with hollow.turn(running):
        thread = threading.Thread(target=lambda: _swallow(hollow, waiting))
        thread.start()
        wait_until(lambda: len(hollow.queue) == 2)
        waiting.cancelled = True
        thread.join()
        assert not hollow.should_stop()
        running.cancelled = True
        assert hollow.should_stop()
    assert not hollow.should_stop()


def _swallow(hollow: Resident, job: Job) -> None:
    with pytest.raises(KeyboardInterrupt), hollow.turn(job):
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
