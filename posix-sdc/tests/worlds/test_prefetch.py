"""Worlds are open before they are asked for, and none is left open."""

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.worlds.prefetch import Ahead


class Machine:
    """Opens worlds that are only names, and keeps book."""

    def __init__(self, broken=()):
        self.opened, self.closed, self.broken = [], [], broken
        self.gate = threading.Event()
        self.gate.set()

    @contextmanager
    def open(self, scenario):
        self.gate.wait(5)
        if scenario.id in self.broken:
            raise InfrastructureError(f"no {scenario.id}")
        self.opened.append(scenario.id)
        try:
            yield f"world {scenario.id}"
        finally:
            self.closed.append(scenario.id)


def scenarios(text):
    return [SimpleNamespace(id=name) for name in text]


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_the_next_are_open_before_they_are_asked_for_and_no_more():
    machine, todo = Machine(), scenarios("abcdef")
    with Ahead(machine.open, todo, 2) as ahead:
        assert wait_for(lambda: sorted(machine.opened) == ["a", "b"])
        time.sleep(0.02)
        assert sorted(machine.opened) == ["a", "b"]
        with ahead.world(todo[0]) as world:
            assert world == "world a"
            assert wait_for(lambda: sorted(machine.opened) == ["a", "b", "c"])
        assert machine.closed == ["a"]
    assert sorted(machine.closed) == ["a", "b", "c"]


def test_whoever_is_not_expected_is_served_too():
    machine, todo = Machine(), scenarios("ab")
    with Ahead(machine.open, todo, 1) as ahead:
        for name in "aazb":
            with ahead.world(SimpleNamespace(id=name)) as world:
                assert world == f"world {name}"
    assert sorted(machine.closed) == sorted(machine.opened) == ["a", "a", "b", "z"]


def test_a_world_that_cannot_be_opened_is_its_takers_error_and_nobody_elses():
    machine, todo = Machine(broken="b"), scenarios("abc")
    with Ahead(machine.open, todo, 3) as ahead:
        with pytest.raises(InfrastructureError, match="no b"), ahead.world(todo[1]):
            pass
        with ahead.world(todo[2]) as world:
            assert world == "world c"
    assert sorted(machine.closed) == ["a", "c"]


def test_one_that_is_still_being_opened_when_it_ends_is_closed():
    machine = Machine()
    machine.gate.clear()
    with Ahead(machine.open, scenarios("ab"), 1):
        threading.Timer(0.1, machine.gate.set).start()
    assert machine.opened == machine.closed


def test_an_error_in_a_session_closes_its_world():
    machine, todo = Machine(), scenarios("a")
    with pytest.raises(ZeroDivisionError), Ahead(machine.open, todo, 1) as ahead, ahead.world(todo[0]):
        raise ZeroDivisionError
    assert machine.closed == ["a"]
