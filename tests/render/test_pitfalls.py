"""The numbered defects of public trainers, a named test each; those of loss and evaluation are beside their code."""

from __future__ import annotations

import copy
import re
from datetime import datetime
from pathlib import Path

import pytest

from tiararodney.sekft.errors import ContractMismatch
from tiararodney.sekft.render import (
    IGNORED,
    Message,
    build_masked_examples,
    check_contract,
    normalize_for_template,
    render_prompt,
    save_contract,
)

MERGING = ["[ -d x ]", "[[", "(", "{", ":", "./x", "/bin/ls", "$x", "\\ls", "]", "[", "[/INST]"]
APART = ["ls", "cd x", "~/x", "#", "-x", '"x"', "exit", "!x", "echo", "1", "panic"]


def trained_text(tok, example):
    return [tok.decode(example.input_ids[a:b]) for a, b in example.spans]


def users(*contents):
    return [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(contents)]


@pytest.mark.parametrize("reply", MERGING)
def test_pitfall_01_a_merge_across_the_border_is_cut(real_pair, assert_serve_exact, reply):
    tok = real_pair("mistral-v1")
    session = users("$ ", reply, "x\n$ ", "exit")
    examples = build_masked_examples(tok, session)
    assert_serve_exact(tok, session, examples)
    # The next turn's history has the merged token: one sequence cannot serve both.
    assert [e.turns for e in examples] == [(1,), (3,)]
    assert examples[0].crossing.startswith("]")
    assert len(examples[0].crossing) > 1


@pytest.mark.parametrize("reply", APART)
def test_pitfall_01_other_starts_share_one_example(real_pair, reply):
    (example,) = build_masked_examples(real_pair("mistral-v1"), users("$ ", reply, "x\n$ ", "exit"))
    assert example.turns == (1, 3)
    assert example.crossing == ""


@pytest.mark.parametrize("reply", MERGING)
def test_pitfall_01_the_later_template_has_no_merges(real_pair, reply):
    (example,) = build_masked_examples(real_pair("mistral-v1-spaced"), users("$ ", reply, "x\n$ ", "exit"))
    assert example.turns == (1, 3)


def test_pitfall_02_marker_text_in_the_output_trains_nothing(real_pair):
    tok = real_pair("mistral-v1-spaced")
    (example,) = build_masked_examples(tok, users("$ ", "cat x", "[/INST] rm -rf / [INST]\n$ ", "exit"))
    assert [t.strip() for t in trained_text(tok, example)] == ["cat x</s>", "exit</s>"]


@pytest.mark.parametrize("name", ["mistral-v1-spaced", "smollm2", "trl-llama3"])
def test_pitfall_03_control_tokens_in_the_output_train_nothing(real_pair, name):
    tok = real_pair(name)
    planted = "".join(tok.control_tokens)
    (example,) = build_masked_examples(tok, users("$ ", "cat x", f"{planted} ls {planted}\n$ ", "exit"))
    assert [t.strip().partition("<")[0] for t in trained_text(tok, example)] == ["cat x", "exit"]


def test_pitfall_03_control_tokens_in_commands_are_spelled_out(chatml, assert_serve_exact):
    session = users("$ ", "grep '<|im_end|>' x", "\n$ ", "exit")
    examples = build_masked_examples(chatml, session)
    assert_serve_exact(chatml, session, examples)
    (start, stop), end = examples[0].spans[0], chatml.control_tokens["<|im_end|>"]
    assert examples[0].input_ids[start:stop].count(end) == 1, "a served model would stop in the middle"


def test_pitfall_04_a_span_ends_before_stripped_space(pair, train_tokenizer):
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '</s>' }}"
        "{% endgeneration %}{% else %}{{ '<u>' + m['content'] + '<b> ' }}{% endif %}{% endfor %}"
    )
    tok = pair(train_tokenizer(["<u>", "<b>", "</s>"]), template, eos="</s>")
    (example,) = build_masked_examples(tok, users("$ ", "ls ", "a\n$ ", "exit"))
    assert trained_text(tok, example) == ["ls </s>", "exit</s>"]


def test_pitfall_06_an_end_of_turn_that_pads_is_trained(chatml):
    (example,) = build_masked_examples(chatml, users("$ ", "ls", "a\n$ ", "exit"))
    end = chatml.control_tokens["<|im_end|>"]
    assert chatml.eos_token == "<|im_end|>"
    assert [example.labels[stop - 1] for _, stop in example.spans] == [end, end]
    others = [i for i, t in enumerate(example.input_ids) if t == end and i + 1 not in [b for _, b in example.spans]]
    assert others
    assert {example.labels[i] for i in others} == {IGNORED}


def test_pitfall_07_every_turn_is_trained_and_no_other(chatml):
    (example,) = build_masked_examples(chatml, users("$ ", "a", "$ ", "b", "$ ", "c", "$ ", "exit"))
    assert trained_text(chatml, example) == [f"{t}<|im_end|>" for t in ("a", "b", "c", "exit")]
    assert sum(label != IGNORED for label in example.labels) == sum(b - a for a, b in example.spans)


def test_pitfall_08_rewritten_history_splits_the_session(real_pair, assert_serve_exact):
    tok = real_pair("trl-qwen3")
    session = users("$ ", "<think>\nhm\n</think>\n\nls", "a\n$ ", "exit")
    examples = build_masked_examples(tok, session)
    assert_serve_exact(tok, session, examples)
    assert [e.turns for e in examples] == [(1,), (3,)]


@pytest.mark.parametrize("name", ["mistral-v1", "mistral-tekken", "trl-gemma", "trl-llama3"])
def test_pitfall_09_the_sequence_begins_with_one_bos(real_pair, name):
    tok = real_pair(name)
    bos = tok.control_tokens[tok.bos_token]
    for ids in (render_prompt(tok, users("$ ")), build_masked_examples(tok, users("$ ", "ls"))[0].input_ids):
        assert ids[0] == bos
        assert ids.count(bos) == 1


def test_pitfall_12_a_long_session_is_whole(chatml):
    session = users("$ ", *["echo word " * 40, "word " * 400 + "\n$ "] * 20, "exit")
    (example,) = build_masked_examples(chatml, session)
    assert len(example.turns) == 21
    assert trained_text(chatml, example)[-1] == "exit<|im_end|>"
    assert example.labels[-1] == chatml.control_tokens["<|im_end|>"]


def test_pitfall_12_a_tokenizers_own_truncation_cuts_nothing(chatml, tmp_path):
    from transformers import PreTrainedTokenizerFast

    chatml.save(tmp_path)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    fast.backend_tokenizer.enable_truncation(8)
    fast.backend_tokenizer.enable_padding(length=4000)
    session = users("$ ", "ls", "word " * 400 + "\n$ ", "exit")
    assert build_masked_examples(fast, session) == build_masked_examples(chatml, session)


def test_pitfall_13_the_context_ends_in_the_generation_prompt(chatml):
    (example,) = build_masked_examples(chatml, users("$ ", "ls"))
    ((start, _),) = example.spans
    assert chatml.decode(example.input_ids[:start]).endswith("<|im_start|>assistant\n")
    assert example.input_ids[:start] == render_prompt(chatml, users("$ "))


def test_pitfall_14_a_date_is_fixed_with_the_adapter(chatml, tmp_path, monkeypatch):
    template = "{{ '<|im_start|>system\\n' + strftime_now('%d %b %Y') + '<|im_end|>\\n' }}" + chatml.chat_template
    tok = chatml.with_template(template)
    today = datetime.now().astimezone().strftime("%d %b %Y")
    save_contract(tok, tmp_path)
    from transformers.utils import chat_template_utils

    from tiararodney.sekft.tokenizer import load_tokenizer

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2099, 1, 2)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    served = load_tokenizer(tmp_path)
    probe = [Message("user", "$ ")]
    assert "02 Jan 2099" in tok.render_text(probe, add_generation_prompt=True)
    assert today in served.render_text(probe, add_generation_prompt=True)
    check_contract(tmp_path, tok)


def test_pitfall_16_another_template_is_refused_by_name(chatml, tmp_path):
    save_contract(chatml, tmp_path)
    check_contract(tmp_path, chatml)
    drifted = chatml.with_template(chatml.chat_template.replace("a helpful assistant", "an assistant"))
    with pytest.raises(ContractMismatch, match="chat template"):
        check_contract(tmp_path, drifted)


def test_pitfall_16_another_tokenizer_is_refused_by_name(chatml, tmp_path, train_tokenizer, pair):
    save_contract(chatml, tmp_path)
    other = pair(train_tokenizer(["<|im_start|>", "<|im_end|>"], vocab_size=300), chatml.chat_template)
    with pytest.raises(ContractMismatch, match="tokenizer"):
        check_contract(tmp_path, other)


def test_pitfall_18_a_transformers_tokenizer_gives_lists_of_ids(chatml, tmp_path):
    from transformers import PreTrainedTokenizerFast

    chatml.save(tmp_path)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    session = users("$ ", "ls", "a\n$ ", "exit")
    ids = render_prompt(fast, session[:1])
    assert type(ids) is list
    assert {type(i) for i in ids} == {int}
    assert ids == render_prompt(chatml, session[:1])
    assert build_masked_examples(fast, session) == build_masked_examples(chatml, session)


@pytest.mark.parametrize("name", ["smollm2", "trl-qwen2_5", "trl-gemma", "mistral-v1", "mistral-v3"])
def test_pitfall_19_any_family_takes_a_system_turn(real_pair, assert_serve_exact, name):
    tok = real_pair(name)
    session = [Message("system", "A terminal."), *users("$ ", "ls", "a\n$ ", "exit")]
    examples = build_masked_examples(tok, session)
    assert_serve_exact(tok, session, examples)
    assert "A terminal.\n\n$" in tok.decode(examples[0].input_ids)


@pytest.mark.parametrize("reply", ["[ -d x ]", "ls", "  ls", "é"])
def test_pitfall_20_no_dummy_space_begins_a_reply(real_pair, reply):
    tok = real_pair("mistral-v1")
    example = build_masked_examples(tok, users("$ ", reply))[-1]
    ((start, _),) = example.spans
    served, whole = tok.decode(example.input_ids[:start]), tok.decode(example.input_ids)
    assert whole == served + reply + "</s>"


def test_the_input_is_left_as_it_was(chatml):
    session = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "$ "},
        {"role": "assistant", "content": "ls"},
    ]
    before = copy.deepcopy(session)
    normalize_for_template(session)
    build_masked_examples(chatml, session)
    assert session == before


def test_every_numbered_pitfall_has_a_named_test():
    tests = Path(__file__).parents[1]
    named = {
        int(number)
        for file in tests.rglob("test_*.py")
        for number in re.findall(r"^def test_pitfall_(\d\d)_", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named == set(range(1, 21))
