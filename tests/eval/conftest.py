"""Episodes made by hand, for what is counted over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.eval.episodes import Episode, Generation

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def episode() -> Callable[..., Episode]:
    """Return a maker of episodes; without arguments it makes a perfect one."""

    def make(scenario_id: str = "s0", model: str = "base", **changes: Any) -> Episode:
        values: dict[str, Any] = {
            "archetype": "repair",
            "terminal": "exit",
            "outcome": "success",
            "verified": True,
            "keep": True,
            "ended": "exit",
            "commands": 3,
            "clean": True,
            "prose_turns": 0,
            "runtime": "bwrap",
            "finished": "2026-01-02T03:04:05+00:00",
            "messages": (
                {"role": "system", "content": "A terminal."},
                {"role": "user", "content": "You have mail.\n$ "},
                {"role": "assistant", "content": "ls <dir> && exit"},
            ),
            "generations": (Generation(2, "ab" * 32, 41, (5, 6, 2), "end"),),
        }
        return Episode(model=model, scenario_id=scenario_id, **(values | changes))

    return make
