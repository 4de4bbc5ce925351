"""What counts as what, and why an episode failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc.sessions.judgement import READ, REASON
from tiararodney.sekft.eval.episodes import Generation
from tiararodney.sekft.eval.outcomes import RATES, Failure, compare, counted, failure, rates
from tiararodney.sekft.eval.report import counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.eval.episodes import Episode

NOTHING = {"outcome": "turn_limit", "verified": False, "keep": False, "ended": None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (True, True, True, True, True)),
        # Prose, yet it left with exit and the state was right: no clean session.
        ({"clean": False, "prose_turns": 1, "keep": False}, (False, True, True, True, False)),
        # It ended, with the wrong word.
        ({"ended": "panic", "keep": False}, (True, True, False, True, False)),
        ({"terminal": "panic", "ended": "panic"}, (True, True, True, True, True)),
        # Commands without an end.
        (NOTHING, (True, False, False, False, False)),
        # The shell died under it: not its own ending.
        (NOTHING | {"ended": "died"}, (True, False, False, False, False)),
        # Not one command ran.
        (NOTHING | {"commands": 0, "clean": True}, (False, False, False, False, False)),
    ],
)
def test_each_rate_reads_its_own_part_of_the_record(
    episode: Callable[..., Episode], changes: dict[str, object], expected: tuple[bool, ...]
) -> None:
    assert tuple(holds(episode(**changes)) for holds in RATES.values()) == expected


def test_infrastructure_errors_are_in_no_k_and_in_no_n(episode: Callable[..., Episode]) -> None:
    broken = episode("s1", infrastructure="engine down", outcome="infrastructure", keep=True)
    result = rates([episode("s0"), broken])
    assert {(r.k, r.n) for r in result.values()} == {(1, 1)}
    assert counted([broken]) == []


def test_archetypes_are_counted_apart(episode: Callable[..., Episode]) -> None:
    groups = counts([episode("a", archetype="z"), episode("b"), episode("c", verified=False)])["by_archetype"]
    assert list(groups) == ["repair", "z"]
    assert [(g["verified"]["k"], g["verified"]["n"]) for g in groups.values()] == [(1, 2), (1, 1)]


def test_pairs_are_scenarios_on_which_both_were_counted(episode: Callable[..., Episode]) -> None:
    base = [episode(f"s{i}", **NOTHING) for i in range(9)] + [episode("only-base")]
    tuned = [episode(f"s{i}", model="tuned") for i in range(8)]
    tuned += [episode("s8", model="tuned", infrastructure="engine down"), episode("only-tuned", model="tuned")]
    result = compare(base, tuned)["clean_termination"]
    assert (result.n, result.only_first, result.only_second, result.p_value) == (8, 0, 8, 2 / 256)


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
        ({"checks": {"copy exists": False}}, Failure.CHECKER),
        ({"terminal": "panic", "ended": "panic", "checks": {REASON: False}}, Failure.REASON),
        ({"terminal": "panic", "ended": "panic", "checks": {READ: False}}, Failure.UNREAD),
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


def test_failures_are_counted_the_most_frequent_first(episode: Callable[..., Episode]) -> None:
    rows = [episode(), episode(**FAILED), *(episode(**FAILED, prose_turns=1, clean=False) for _ in range(2))]
    assert list(counts(rows)["failures"].items()) == [("prose turn", 2), ("checker failed", 1)]
