"""Cutting a text at its anchors: what is proved equals what encoding the beginning alone gives."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, build_masked_examples
from tiararodney.sekft.render.encode import crossing_text, encode, prefix_length

_WORDS = ["ls", " ", "\n", "\n\n", "  ", "é", "🙂", "12", "</s>", "<|im_end|>", "<|im_start|>", "[INST]", "]", "$ "]


def assert_proved(tok, text):
    """Hold every proof about a text against encoding its beginning alone."""
    whole = encode(tok, text)
    assert whole.ids == tok.encode(text)
    for start, end, at in whole.anchors:
        assert tok.anchors[whole.ids[at]] == text[start:end]
    for border in range(len(text) + 1):
        alone, proved = tok.encode(text[:border]), prefix_length(tok, whole, border)
        if proved is not None:
            assert whole.ids[:proved] == alone, f"{text[:border]!r} is encoded otherwise"
    return whole


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_proved_prefix_is_the_beginning_encoded_alone(real, data):
    pieces = st.sampled_from([*_WORDS, *list(real.control_tokens)[:4]])
    assert_proved(real, data.draw(st.lists(pieces, max_size=12).map("".join)))


# Tokens within, around, overlapping and repeating one another, plain and as words of their own.
OVERLAPPING = ["<a>", "b<a>c", "<d>", "<d><", "<<d>", "dd", "ddd"]


@pytest.mark.parametrize("single_word", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.lists(st.sampled_from([*OVERLAPPING, "<", "d", "a", ">", " "]), max_size=8).map("".join))
def test_overlapping_tokens_are_never_mistaken(train_tokenizer, pair, single_word, text):
    from tokenizers import AddedToken

    backend = train_tokenizer(OVERLAPPING)
    backend.add_special_tokens([AddedToken("<d><", single_word=single_word, normalized=False, special=True)])
    assert_proved(pair(backend, ""), text)


def test_a_token_within_another_is_no_anchor(train_tokenizer, pair):
    tok = pair(train_tokenizer(["<a>", "b<a>c", "<d>"]), "")
    assert set(tok.anchors.values()) == {"b<a>c", "<d>"}


def test_text_between_anchors_is_encoded_once(chatml):
    texts = []

    class Counting:
        def __getattr__(self, name):
            return getattr(chatml, name)

        def encode(self, text):
            texts.append(text)
            return chatml.encode(text)

    turns = [Message("assistant", "cat notes"), Message("user", "a line of output\n$ ")]
    (example,) = build_masked_examples(Counting(), [Message("user", "$ "), *turns * 40, Message("assistant", "exit")])
    assert len(example.turns) == 41
    assert texts[1:] == ["<|im_start|>assistant\n", "<|im_end|>"], "a header and an end, whatever the turns"


def test_the_crossing_token_is_the_first_that_differs(chatml):
    assert crossing_text(chatml, chatml.encode("ls"), [*chatml.encode("ls"), 5]) == ""
    assert crossing_text(chatml, [7, 8, 9], [7, 5, 9]) == chatml.decode([5])
