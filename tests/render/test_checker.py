"""The check at run time, where it has to fail: tokenizers and sequences that break the property."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiararodney.sekft.render import Message, RefusalReason, SessionRefused, build_masked_examples
from tiararodney.sekft.render.encode import decodes_to, encode, prefix_length, reply_span

SESSION = [Message("user", "$ "), Message("assistant", "ls"), Message("user", "a\n$ "), Message("assistant", "exit")]


class Wrapped:
    """A tokenizer with one method replaced."""

    def __init__(self, inner, **methods):
        self.inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_prompt_that_encodes_otherwise_alone_is_no_prefix(chatml):
    text = chatml.render_text(SESSION, add_generation_prompt=False)
    border = text.index("ls<|im_end|>")
    assert prefix_length(chatml, encode(chatml, text), border) is not None
    liar = Wrapped(chatml, encode=lambda t: [*chatml.encode(t)[:-1], 7])
    assert prefix_length(liar, encode(chatml, text), border) is None


def test_a_border_within_a_token_is_no_border(chatml):
    text = chatml.render_text(SESSION, add_generation_prompt=False)
    encoded = encode(chatml, text)
    inside = text.index("<|im_end|>") + 1
    assert prefix_length(chatml, encoded, inside) is None


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_a_span_that_is_shifted_is_refused(chatml, shift):
    text = chatml.render_text(SESSION, add_generation_prompt=False)
    border, over = text.index("ls<|im_end|>"), text.index("ls<|im_end|>") + len("ls<|im_end|>")
    encoded = encode(chatml, text)
    assert reply_span(chatml, encoded, border, over, "<|im_end|>") is not None
    assert reply_span(chatml, encoded, border, over + shift, "<|im_end|>") is None


def test_another_end_of_turn_is_refused(chatml):
    text = chatml.render_text(SESSION, add_generation_prompt=False)
    border = text.index("ls<|im_end|>")
    assert reply_span(chatml, encode(chatml, text), border, border + len("ls<|im_end|>"), "<|im_start|>") is None


def test_tokens_that_say_something_else_are_refused(chatml):
    assert decodes_to(chatml, [], chatml.encode("ls"), "ls")
    assert not decodes_to(chatml, [], chatml.encode("ls"), "l")
    assert not decodes_to(chatml, [], chatml.encode("ls "), "ls")


def test_a_tokenizer_that_loses_text_is_refused(chatml):
    def deaf(text):
        return chatml.encode(text.lower())

    lossy = Wrapped(chatml, encode=deaf)
    assert len(build_masked_examples(lossy, SESSION)) == 1
    with pytest.raises(SessionRefused) as caught:
        build_masked_examples(lossy, [SESSION[0], Message("assistant", "LS")])
    assert caught.value.reason is RefusalReason.NOT_REVERSIBLE
    assert caught.value.turn == 1


@pytest.mark.parametrize("hidden", ["<|im_start|>", "<|im_end|>"])
def test_missing_anchors_cost_time_and_never_exactness(chatml, assert_serve_exact, hidden):
    anchors = {i: text for i, text in chatml.anchors.items() if text != hidden}
    for blind in (Wrapped(chatml, anchors=anchors), Wrapped(chatml, anchors={})):
        examples = build_masked_examples(blind, SESSION)
        assert_serve_exact(chatml, SESSION, examples)
        assert examples == build_masked_examples(chatml, SESSION)


def test_the_judge_fails_on_a_shifted_mask(chatml, assert_serve_exact):
    (example,) = build_masked_examples(chatml, SESSION)
    assert_serve_exact(chatml, SESSION, [example])
    for spans in ([(a + 1, b) for a, b in example.spans], [(a - 1, b) for a, b in example.spans]):
        labels = [-100] * len(example.input_ids)
        for a, b in spans:
            labels[a:b] = example.input_ids[a:b]
        with pytest.raises(AssertionError):
            assert_serve_exact(chatml, SESSION, [replace(example, labels=labels, spans=tuple(spans))])
    with pytest.raises(AssertionError, match="lost"):
        assert_serve_exact(chatml, SESSION, [])
