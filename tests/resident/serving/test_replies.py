"""Token ids to text as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiararodney.sekft.resident.serving.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence


def by_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


def streamed(text: str, stops: Sequence[str] = ()) -> tuple[list[str], Reply]:
    reply = Reply([], by_bytes, stops)
    given = []
    for token in text.encode():
        given.append(reply.add(token))
        if reply.stopped:
            break
    return [*given, reply.rest()], reply


def test_a_character_is_given_out_when_it_is_whole() -> None:
    given, _ = streamed("aé€")
    assert given == ["a", "", "é", "", "", "€", ""]


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("ls\n$ pwd", ["\n$ "], "ls"),
        ("ls\nx", ["\n$ "], "ls\nx"),
        ("aXbYc", ["Y", "X"], "a"),
        ("ends with \n$", ["\n$ "], "ends with \n$"),
        ("€uro", ["€"], ""),
        ("none", [], "none"),
    ],
)
def test_a_stop_text_ends_the_reply_and_is_left_out(text: str, stops: list[str], expected: str) -> None:
    given, reply = streamed(text, stops)
    assert "".join(given) == reply.text == expected
    assert reply.stopped == (expected != text)


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_pieces_make_the_text_up_to_its_first_stop(text: str, stops: list[str]) -> None:
    """Whatever is streamed is never taken back, and is what cutting the whole text would give."""
    text = text.encode("utf-8", "replace").decode()
    stops = [s.encode("utf-8", "replace").decode() for s in stops]
    given, reply = streamed(text, stops)
    ends = [i for i in range(len(text) + 1) if any(text[:i].endswith(s) for s in stops)]
    whole = text[: ends[0]] if ends else text
    found = [at for at in (whole.find(s) for s in stops) if at >= 0]
    assert "".join(given) == reply.text == (whole[: min(found)] if found else whole)
