"""The log on disk: every whole line survives, a torn one does not matter."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.episodes import Episode, EpisodeLog, prompt_hash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_an_episode_comes_back_from_json_as_it_was(episode: Callable[..., Episode]) -> None:
    one = episode(messages=({"role": "user", "content": "caf\u00e9 \u2028 \x1b[31m \ud800"},))
    assert Episode.from_json(json.loads(json.dumps(asdict(one)))) == one


def test_the_log_holds_what_was_appended_before_it_is_closed(tmp_path: Path, episode: Callable[..., Episode]) -> None:
    log = EpisodeLog(tmp_path / "episodes.jsonl")
    odd = episode("s1", checker="line\u2028separator \ud800 \x85")
    log.append(episode("s0"))
    log.append(odd)
    lines = (tmp_path / "episodes.jsonl").read_bytes().split(b"\n")
    assert [Episode.from_json(json.loads(line)) for line in lines[:-1]] == [episode("s0"), odd]
    assert EpisodeLog(tmp_path / "episodes.jsonl").episodes == [episode("s0"), odd]


@pytest.mark.parametrize("torn", [b'{"model": "ba', b'{"model": "base"}', b"\xff\xfe"])
def test_a_torn_last_line_is_cut_off_and_the_log_goes_on(
    tmp_path: Path, episode: Callable[..., Episode], torn: bytes
) -> None:
    path = tmp_path / "episodes.jsonl"
    first = EpisodeLog(path)
    first.append(episode("s0"))
    with path.open("ab") as file:
        file.write(torn)
    log = EpisodeLog(path)
    log.append(episode("s1"))
    assert [e.scenario_id for e in EpisodeLog(path).episodes] == ["s0", "s1"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_broken_line_inside_is_named(tmp_path: Path, episode: Callable[..., Episode]) -> None:
    path = tmp_path / "episodes.jsonl"
    log = EpisodeLog(path)
    log.append(episode("s0"))
    path.write_bytes(path.read_bytes() + b"{broken\n" + path.read_bytes())
    found = path.read_bytes() + b"no end"
    path.write_bytes(found)
    with pytest.raises(UsageError, match=r"episodes\.jsonl:2: no episode"):
        EpisodeLog(path)
    assert path.read_bytes() == found  # nothing is cut off a file that is refused


def test_the_prompt_hash_is_what_its_docstring_says() -> None:
    assert prompt_hash([1, 20, 300]) == hashlib.sha256(b"1,20,300").hexdigest()
