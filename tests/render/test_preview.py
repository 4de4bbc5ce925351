"""The mask for people."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, build_masked_examples
from tiararodney.sekft.render.preview import Run, preview, printable, runs


def session(reply="echo é漢🙂", output="naïve 漢字\n$ "):
    return [Message("user", "$ "), Message("assistant", reply), Message("user", output), Message("assistant", "exit")]


def test_trained_runs_are_replies_with_their_ends(chatml):
    (example,) = build_masked_examples(chatml, session())
    found = runs(chatml, example)
    assert [r.kind for r in found] == ["context", "trained", "context", "trained"]
    assert [r.text for r in found if r.kind == "trained"] == ["echo é漢🙂<|im_end|>", "exit<|im_end|>"]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=st.sampled_from(["ls", "é漢🙂", "[ -d x ]", "a  b"]), output=st.text(alphabet="a é漢🙂\n", max_size=12))
def test_runs_joined_are_the_text_of_the_tokens(real, reply, output):
    for example in build_masked_examples(real, session(reply, output)):
        assert "".join(r.text for r in runs(real, example)) == real.decode(example.input_ids)


def test_masked_replies_are_runs_of_their_own(chatml):
    turns = [dict(m) for m in session()]
    turns[1]["train"] = False
    (example,) = build_masked_examples(chatml, turns)
    found = [(r.kind, r.text) for r in runs(chatml, example)]
    assert ("masked", "echo é漢🙂<|im_end|>") in found
    assert "".join(text for _, text in found) == chatml.decode(example.input_ids)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_nothing_that_is_shown_acts_on_a_terminal(text):
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert not set(shown) & set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert printable(shown) == shown


def test_colours_end_with_each_line():
    shown = preview([Run("a\n\nb", "trained", 0, 3), Run("c", "context", 3, 4), Run("d", "masked", 4, 5)], colour=True)
    assert shown == "\x1b[1;32ma\x1b[0m\n\n\x1b[1;32mb\x1b[0m\x1b[2mc\x1b[0m\x1b[33md\x1b[0m"


def test_marks_stand_where_colours_are_off():
    shown = preview(
        [Run("$ ", "context", 0, 1), Run("rm x</s>", "masked", 1, 3), Run("ls</s>", "trained", 3, 5)], colour=False
    )
    assert shown == "$ ⟪rm x</s>⟫⟦ls</s>⟧"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[2J", "␛[2J"), ("a\rb\x00", "a␍b␀"), ("\x9b", "\\x9b"), ("\u202eabc", "\\u202eabc"), ("a\tb\n", "a\tb\n")],
)
def test_control_characters_are_shown_as_symbols(text, shown):
    assert printable(text) == shown
