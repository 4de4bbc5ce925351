"""A session that notes how far it was looked at."""

from __future__ import annotations

import math

import pytest

from tiararodney.sekft.render.watched import Seen, Watched


def look_at(messages, how):
    seen = Seen()
    how(Watched(messages, seen))
    return seen.last


@pytest.mark.parametrize(
    ("how", "last"),
    [
        (lambda _: None, -1),
        (bool, 0),
        (lambda m: m[1], 1),
        (lambda m: m[1:], -1),
        (lambda m: m[1:][1], 2),
        (lambda m: next(iter(m)), 0),
        (lambda m: next(iter(m[1:])), 1),
        (len, math.inf),
        (list, math.inf),
        (lambda m: m[-1], math.inf),
        (lambda m: m[:2], math.inf),
        (lambda m: m[::-1], math.inf),
        (lambda m: next(reversed(m)), math.inf),
        (lambda m: "x" in m, math.inf),
        (lambda m: m[3:] or None, math.inf),
    ],
)
def test_what_was_looked_at_is_noted(how, last):
    messages = [{"role": "user", "content": c} for c in "abc"]
    assert look_at(messages, how) == last


@pytest.mark.parametrize("how", [str, hash, lambda m: m == [], lambda m: m + m, lambda m: m[5]])
def test_what_cannot_be_noted_fails(how):
    with pytest.raises((TypeError, IndexError)):
        look_at([{"role": "user", "content": "a"}], how)


def test_a_watched_session_gives_what_a_list_gives():
    messages = [{"role": "user", "content": c} for c in "abcd"]
    watched = Watched(messages, Seen())
    assert list(watched[1:]) == messages[1:]
    assert list(watched[1:][1:]) == messages[2:]
    assert watched[1:][:-1] == messages[1:-1]
    assert watched[1:][-1] == messages[-1]
    assert list(reversed(watched[1:])) == messages[1:][::-1]
    assert (len(watched[3:]), len(watched[9:]), bool(watched[9:])) == (1, 0, False)
    with pytest.raises(IndexError):
        watched[3:][1]
