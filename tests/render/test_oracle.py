"""mistral-common's own encoding of the same chat, as a judge from outside."""

from __future__ import annotations

import pytest

from tiararodney.sekft.render import Message, build_masked_examples, render_prompt
from tiararodney.sekft.tokenizer import load_tokenizer

pytest.importorskip("mistral_common", reason="needs mistral-common")

FAMILIES = {
    "mistral-v1-spaced": lambda t: t.MistralTokenizer.v1(),
    "mistral-v2": lambda t: t.MistralTokenizer.from_file(data("mistral_instruct_tokenizer_240216.model.v2")),
    "mistral-v3": lambda t: t.MistralTokenizer.from_file(data("mistral_instruct_tokenizer_240323.model.v3")),
    "mistral-v7": lambda t: t.MistralTokenizer.from_file(data("mistral_instruct_tokenizer_241114.model.v7")),
    "mistral-tekken": lambda t: t.MistralTokenizer.from_file(data("tekken_240718.json")),
}
TURNS = [
    "You have mail.\n$ ",
    "ls -la /var/log",
    "total 4\ndrwxr-xr-x 2 root root 4096 é漢\n$ ",
    "[ -d x ] && ./run 123",
    "  indented\n\n\ttabbed </b>\n$ ",
    "exit",
]


def data(name):
    from pathlib import Path

    import mistral_common

    return Path(mistral_common.__file__).parent / "data" / name


def theirs(family, turns):
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers import mistral

    kinds = (UserMessage, AssistantMessage)
    messages = [kinds[i % 2](content=c) for i, c in enumerate(turns)]
    return FAMILIES[family](mistral).encode_chat_completion(ChatCompletionRequest(messages=messages)).tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_prompt_equals_mistral_commons(family, n, real_pair):
    session = [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(TURNS[:n])]
    assert render_prompt(real_pair(family), session) == theirs(family, TURNS[:n])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trained_turn_has_its_context(family, real_pair):
    session = [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(TURNS)]
    (example,) = build_masked_examples(real_pair(family), session)
    assert example.turns == (1, 3, 5)
    for turn, (start, _) in zip(example.turns, example.spans, strict=True):
        assert example.input_ids[:start] == theirs(family, TURNS[:turn])


def test_a_saved_pair_encodes_its_template_as_auto_tokenizer(real, tmp_path):
    from transformers import AutoTokenizer

    real.save(tmp_path)
    auto, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    session = [Message("user", "$ "), Message("assistant", "ls"), Message("user", "a\n$ ")]
    for text in (real.chat_template, real.render_text(session, add_generation_prompt=True)):
        assert again.encode(text) == real.encode(text) == auto(text, add_special_tokens=False)["input_ids"]
