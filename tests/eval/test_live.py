"""What a run shows while it goes on."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.eval import live
from tiararodney.sekft.eval.live import Watch, watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.eval.episodes import Episode


def job(scenario: str, model: str = "base") -> Any:
    return SimpleNamespace(model=model, key=(model, scenario, 0))


def rendered(watch: Watch, width: int = 120) -> str:
    from rich.console import Console

    console = Console(width=width, force_terminal=False)
    with console.capture() as shown:
        console.print(watch.table())
    return shown.get()


def test_the_table_shows_rates_so_far_and_what_sessions_do(episode: Callable[..., Episode]) -> None:
    watch = Watch([job("s0"), job("s1"), job("s2", "tuned")], ["base", "tuned"], [episode("s9", "tuned")])
    watch.turn(job("s0"), 1)
    watch.turn(job("s1"), 4)
    watch.finished(episode("s0", keep=False, verified=False))
    shown = rendered(watch)
    assert "1/3 sessions · base success 0/1 · tuned success 1/1 · 1 open, furthest at turn 4 · about" in shown
    assert "clean termination  1/1   1/1" in shown
    assert "base s1: turn 4" in shown
    assert "s0: turn" not in shown


def test_what_a_session_does_takes_one_line_on_a_narrow_terminal() -> None:
    watch = Watch([job("s0")], ["base"], [])
    watch.turn(job("a-scenario-of-a-long-name-000001"), 1)
    assert rendered(watch, width=32).splitlines()[-1] == "  base a-scenario-of-a-long-nam\u2026"


def test_infrastructure_errors_are_shown_apart(episode: Callable[..., Episode]) -> None:
    watch = Watch([job("s0"), job("s1")], ["base"], [])
    watch.finished(episode("s0", infrastructure="engine down"))
    assert watch.summary().startswith("1/2 sessions · 1 infrastructure errors")


def test_a_pipe_gets_a_line_for_each_session(episode: Callable[..., Episode], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with watching([job("s0")], ["base"], []) as watch:
        watch.turn(job("s0"), 1)
        watch.finished(episode("s0"))
    assert [r.getMessage() for r in caplog.records] == [
        "1/1 sessions · base success 1/1 · about 0:00:00 left: base success after 3 commands"
    ]


def test_a_pipe_is_told_when_nothing_finishes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.0)
    with watching([job("s0")], ["base"], []) as watch:
        watch.turn(job("s0"), 2)
        time.sleep(1.2)
    assert caplog.records[0].getMessage() == "0/1 sessions · 1 open, furthest at turn 2"
