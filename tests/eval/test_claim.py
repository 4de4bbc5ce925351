"""What a folder of episodes belongs to: a run resumes in its own folder and in no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.run import claim

if TYPE_CHECKING:
    from pathlib import Path

FIRST: dict[str, dict[str, Any]] = {
    "settings": {"seed": 0, "max_turns": None},
    "models": {"base": "sha256:b"},
    "scenarios": {"s0": "0", "s1": "1"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    claim(tmp_path / "out" / "run.json", FIRST)
    return tmp_path / "out" / "run.json"


def test_a_new_folder_is_taken_and_the_same_run_goes_on(file: Path) -> None:
    assert json.loads(file.read_text()) == FIRST
    claim(file, FIRST)
    assert json.loads(file.read_text()) == FIRST


def test_more_models_and_scenarios_join_and_none_is_forgotten(file: Path) -> None:
    claim(file, FIRST | {"models": {"tuned": "sha256:t"}, "scenarios": {"s1": "1", "s2": "2"}})
    claim(file, FIRST)
    assert json.loads(file.read_text()) == FIRST | {
        "models": {"base": "sha256:b", "tuned": "sha256:t"},
        "scenarios": {"s0": "0", "s1": "1", "s2": "2"},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"seed": 1}}, "settings: seed was 0, now it is 1"),
        ({"settings": {"max_turns": 3}}, "settings: max_turns was None, now it is 3"),
        ({"models": {"base": "sha256:c"}}, "models: base was 'sha256:b', now it is 'sha256:c'"),
        ({"scenarios": {"s1": "other"}}, "scenarios: s1 was '1', now it is 'other'"),
    ],
)
def test_what_differs_is_named_and_nothing_is_written(file: Path, change: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        claim(file, FIRST | change)
    assert json.loads(file.read_text()) == FIRST


def test_a_record_that_cannot_be_read_is_refused(file: Path) -> None:
    file.write_text("{")
    with pytest.raises(UsageError, match=r"run\.json: found no JSON object"):
        claim(file, FIRST)


def test_episodes_without_their_record_are_refused(file: Path) -> None:
    file.rename(file.with_name("elsewhere.json"))
    (file.parent / "episodes.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"found episodes\.jsonl but no run\.json"):
        claim(file, FIRST)
