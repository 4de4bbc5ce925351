"""What counts as what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tiararodney.sekft.eval.rates import RATES, by_archetype, compare, counted, rates

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
        # The recorder did not say whether turns were prose.
        ({"clean": None, "prose_turns": None}, (None, True, True, True, True)),
    ],
)
def test_each_rate_reads_its_own_part_of_the_record(
    episode: Callable[..., Episode], changes: dict[str, object], expected: tuple[bool | None, ...]
) -> None:
    assert tuple(predicate(episode(**changes)) for predicate in RATES.values()) == expected


def test_infrastructure_errors_are_in_no_k_and_in_no_n(episode: Callable[..., Episode]) -> None:
    broken = episode("s1", infrastructure="engine down", outcome="infrastructure", keep=True)
    result = rates([episode("s0"), broken])
    assert {(r.k, r.n) for r in result.values()} == {(1, 1)}
    assert counted([broken]) == []


def test_an_unknown_value_leaves_n_instead_of_counting_as_a_failure(episode: Callable[..., Episode]) -> None:
    result = rates([episode("s0"), episode("s1", clean=None)])
    assert (result["operate"].k, result["operate"].n) == (1, 1)
    assert (result["terminate"].k, result["terminate"].n) == (2, 2)


def test_archetypes_are_counted_apart(episode: Callable[..., Episode]) -> None:
    groups = by_archetype([episode("a", archetype="z"), episode("b"), episode("c", verified=False)])
    assert list(groups) == ["repair", "z"]
    assert [(g["verified"].k, g["verified"].n) for g in groups.values()] == [(1, 2), (1, 1)]


def test_pairs_are_scenarios_on_which_both_were_counted(episode: Callable[..., Episode]) -> None:
    base = [episode(f"s{i}", **NOTHING) for i in range(9)] + [episode("only-base")]
    tuned = [episode(f"s{i}", model="tuned") for i in range(8)]
    tuned += [episode("s8", model="tuned", infrastructure="engine down"), episode("only-tuned", model="tuned")]
    result = compare(base, tuned)["clean_termination"]
    assert (result.n, result.only_first, result.only_second, result.p_value) == (8, 0, 8, 2 / 256)
