"""The mask for people."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, build_masked_examples
from tiararodney.sekft.render.preview import Run, preview, printable, runs


def session(reply="echo é漢🙂", output="naïve 漢字\n$ "):
    return [Message("user", "$ "), Message("assistant", reply), Message("user", output), Message("assistant", "exit")]


def test_runs_alternate_and_trained_ones_are_replies_with_their_ends(chatml):
    (example,) = build_masked_examples(chatml, session())
    found = runs(chatml, example)
    assert [r.trained for r in found] == [False, True, False, True]
    assert [r.text for r in found if r.trained] == ["echo é漢🙂<|im_end|>", "exit<|im_end|>"]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=st.sampled_from(["ls", "é漢🙂", "[ -d x ]", "a  b"]), output=st.text(alphabet="a é漢🙂\n", max_size=12))
def test_runs_joined_are_the_text_of_the_tokens(real, reply, output):
    for example in build_masked_examples(real, session(reply, output)):
        assert "".join(r.text for r in runs(real, example)) == real.decode(example.input_ids)


def test_colours_end_with_each_line():
    shown = preview([Run("a\n\nb", trained=True, start=0, end=3), Run("c", trained=False, start=3, end=4)], colour=True)
    assert shown == "\x1b[1;32ma\x1b[0m\n\n\x1b[1;32mb\x1b[0m\x1b[2mc\x1b[0m"


def test_without_colours_marks_tell():
    shown = preview(
        [Run("$ ", trained=False, start=0, end=1), Run("ls</s>", trained=True, start=1, end=3)], colour=False
    )
    assert shown == "$ ⟦ls</s>⟧"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[2J", "␛[2J"), ("a\rb\x00", "a␍b␀"), ("\x9b", "\\x9b"), ("\u202eabc", "\\u202eabc"), ("a\tb\n", "a\tb\n")],
)
def test_what_the_environment_printed_cannot_act_on_the_terminal(text, shown):
    assert printable(text) == shown
