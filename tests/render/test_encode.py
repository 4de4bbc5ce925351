"""Texts that begin like one that is encoded already."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, build_masked_examples
from tiararodney.sekft.render.encode import encode

_WORDS = ["ls", " ", "\n", "\n\n", "  ", "é", "🙂", "12", "</s>", "<|im_end|>", "<|im_start|>", "[INST]", "]", "$ "]


def same(tok, text, known):
    """Encode a text behind a known one, held against encoding it alone."""
    alone, behind = encode(tok, text), encode(tok, text, encode(tok, known))
    assert behind.ids == alone.ids
    assert [behind.offsets[i] for i in range(len(behind.offsets))] == list(alone.offsets[:])
    assert behind.anchor_at == alone.anchor_at
    assert behind.anchor_starts == alone.anchor_starts
    assert behind.anchor_ends == alone.anchor_ends
    assert behind.text == text


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), cut=st.integers(0, 30))
def test_reused_ids_equal_a_fresh_encoding(real, data, cut):
    pieces = st.lists(st.sampled_from([*_WORDS, *list(real.control_tokens)[:4]]), max_size=12).map("".join)
    known, rest = data.draw(pieces), data.draw(pieces)
    same(real, known[:cut] + rest, known)
    same(real, known + rest, known)


def test_only_the_unshared_rest_is_encoded(chatml):
    texts = []

    class Counting:
        def __getattr__(self, name):
            return getattr(chatml, name)

        def encode_with_offsets(self, text):
            texts.append(text)
            return chatml.encode_with_offsets(text)

    known = encode(chatml, "<|im_start|>user\nls<|im_end|><|im_start|>cat")
    encode(Counting(), "<|im_start|>user\nls<|im_end|>\nexit", known)
    encode(Counting(), "<|im_start|>usher", known)
    encode(Counting(), "user", known)
    assert texts == ["<|im_end|>\nexit", "<|im_start|>usher", "user"]


def test_many_examples_are_encoded_in_linear_time(train_tokenizer, pair):
    thinking = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    tok = pair(train_tokenizer(["<|im_start|>", "<|im_end|>"]), thinking)
    encoded = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tok, name)

        def encode_with_offsets(self, text):
            encoded.append(len(text))
            return tok.encode_with_offsets(text)

    turns = [Message("assistant", "cat notes"), Message("user", "a line of output\n$ ")]
    session = [Message("user", "$ "), *turns * 40, Message("assistant", "exit")]
    examples = build_masked_examples(Counting(), session)
    assert len(examples) == 41
    assert sum(encoded) < 4 * encoded[0] < 0.2 * sum(len(tok.decode(e.input_ids)) for e in examples)


def test_a_token_within_another_is_no_anchor(train_tokenizer, pair):
    tok = pair(train_tokenizer(["<a>", "b<a>c", "<d>"]), "")
    assert {text for text, i in tok.control_tokens.items() if i in tok.anchors} == {"b<a>c", "<d>"}
    same(tok, "b<a>c", "b<a>d")
    same(tok, "<d>b<a>c", "<d>b<a>")


@pytest.mark.parametrize("shift", [-1, 1])
def test_no_cut_is_made_where_offsets_are_wrong(chatml, shift):
    class Shifted:
        def __getattr__(self, name):
            return getattr(chatml, name)

        def encode_with_offsets(self, text):
            ids, offsets = chatml.encode_with_offsets(text)
            return ids, [(max(0, a + shift), max(0, b + shift)) for a, b in offsets[:]]

    text = "x<|im_start|>user\nls<|im_end|>"
    assert encode(Shifted(), text + "cat", encode(Shifted(), text + "ls")).ids == chatml.encode(text + "cat")
