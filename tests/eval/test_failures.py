"""Why an episode failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc.sessions.judgement import READ, REASON
from tiararodney.sekft.eval.episodes import Check, Generation
from tiararodney.sekft.eval.failures import Failure, failure, tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.eval.episodes import Episode

FAILED = {"keep": False, "verified": False, "outcome": "unverified"}


def session(*commands: str) -> tuple[dict[str, str], ...]:
    turns = [{"role": "user", "content": "$ "}]
    for command in commands:
        turns += [{"role": "assistant", "content": command}, {"role": "user", "content": "$ "}]
    return tuple(turns)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Failure.CHECKER),
        ({"checks": (Check("copy exists", passed=False),)}, Failure.CHECKER),
        ({"terminal": "panic", "ended": "panic", "checks": (Check(REASON, passed=False),)}, Failure.REASON),
        ({"terminal": "panic", "ended": "panic", "checks": (Check(READ, passed=False),)}, Failure.UNREAD),
        ({"ended": "panic"}, Failure.WRONG_TERMINAL),
        ({"ended": "died"}, Failure.DIED),
        ({"ended": None}, Failure.DIED),
        ({"ended": "time_limit"}, Failure.TIME_LIMIT),
        ({"ended": "turn_limit", "messages": session("ls", "pwd", "ls")}, Failure.STEP_LIMIT),
        ({"ended": "turn_limit", "messages": session("pwd", "ls", "ls", "ls")}, Failure.REPEATED),
        ({"ended": "time_limit", "messages": session("ls", "ls ", "ls")}, Failure.REPEATED),
        ({"clean": False, "prose_turns": 2, "ended": "turn_limit"}, Failure.PROSE),
        ({"generations": (Generation(2, stop="length"),), "ended": "turn_limit"}, Failure.TOKEN_LIMIT),
        ({"generations": (Generation(2, stop="context"),)}, Failure.TOKEN_LIMIT),
    ],
)
def test_failure_names_the_first_cause(
    episode: Callable[..., Episode], changes: dict[str, Any], expected: Failure
) -> None:
    assert failure(episode(**(FAILED | changes))) == expected


def test_success_and_infrastructure_errors_are_no_failures(episode: Callable[..., Episode]) -> None:
    assert failure(episode()) is None
    assert failure(episode(infrastructure="engine down", **FAILED)) is None


def test_tally_counts_the_most_frequent_first(episode: Callable[..., Episode]) -> None:
    rows = [episode(), episode(**FAILED), *(episode(**FAILED, prose_turns=1, clean=False) for _ in range(2))]
    assert tally(rows) == {"prose turn": 2, "checker failed": 1}
