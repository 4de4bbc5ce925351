"""Generation prompts that open a thought: turned off where the template lets it be, trained as served where not."""

from __future__ import annotations

import pytest

from tiararodney.sekft.render import (
    Message,
    RefusalReason,
    SessionRefused,
    apply_policy,
    build_masked_examples,
    canonical_chat_template,
    check_contract,
    contract_tokenizer,
    normalize_for_template,
    render_prompt,
    save_contract,
    take_fingerprint,
)
from tiararodney.sekft.render.contract.canonical import marks_of, thinking_off
from tiararodney.sekft.render.reply import before_thought, opened_thought
from tiararodney.sekft.tokenizer import load_tokenizer

BODY = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
ALWAYS = BODY + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
SWITCHED = (
    BODY + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
# Prompts that close a thought which the history does not show, as the published templates of these models do.
DEEPSEEK_V32 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>' + m['content'] }}{% else %}"
    "{{ '<|bot|>' + m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|bot|></think>' }}{% endif %}"
)
LARGE_GEMMA_4 = (
    "{% for m in messages %}{{ '<|turn>' + m['role'] + '\\n' + m['content'] | trim + '<turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>assistant\\n<|channel>thought\\n<channel|>' }}{% endif %}"
)
SESSION = [
    Message("system", "A terminal."),
    Message("user", "$ "),
    Message("assistant", "ls"),
    Message("user", "a\n$ "),
    Message("assistant", "exit"),
]
# Templates that show images, and take content as a list of parts only.
OF_IMAGES = {"idefics3", "llava_next", "smolvlm"}


def test_every_published_text_template_is_trained_as_served(published, assert_serve_exact):
    name, own = published
    for tok in (own, apply_policy(own)):
        if name in OF_IMAGES:
            with pytest.raises(SessionRefused) as caught:
                build_masked_examples(tok, SESSION)
            assert caught.value.reason in (RefusalReason.REPLY_REWRITTEN, RefusalReason.TEMPLATE_REFUSES)
        else:
            assert_serve_exact(tok, SESSION, build_masked_examples(tok, SESSION))


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<seed:think>", "<seed:think>"),
        ("[/INST][THINK]", "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|im_start|>assistant\n", ""),
        ("say <think> aloud\n<|im_start|>assistant\n", ""),
    ],
)
def test_open_and_closed_thoughts_are_distinguished(prompt, opened):
    assert opened_thought(prompt) == opened
    assert before_thought(prompt) == prompt[: len(prompt) - len(opened)] or not opened


def test_a_reply_behind_an_open_thought_is_served_exactly(chatml, assert_serve_exact):
    tok = chatml.with_template(ALWAYS)
    examples = build_masked_examples(tok, SESSION)
    assert_serve_exact(tok, SESSION, examples)
    assert [e.turns for e in examples] == [(1,), (3,)], "no past turn holds the thought that was opened"
    assert tok.decode(examples[0].input_ids).endswith("<|im_start|>assistant\n<think>\nls<|im_end|>")
    assert thinking_off(tok) == {}
    assert apply_policy(tok) is tok


def test_thinking_is_turned_off_where_a_switch_exists(chatml, assert_serve_exact):
    own = chatml.with_template(SWITCHED)
    assert thinking_off(own) == {"enable_thinking": False}
    tok = apply_policy(own)
    examples = build_masked_examples(tok, SESSION)
    assert_serve_exact(tok, SESSION, examples)
    assert tok.decode(examples[0].input_ids).endswith("<think>\n\n</think>\n\nls<|im_end|>")
    assert marks_of(tok.chat_template).settings == {"enable_thinking": False}
    assert take_fingerprint(own).settings == take_fingerprint(tok).settings == {"enable_thinking": False}


def test_the_setting_travels_with_the_adapter(chatml, tmp_path):
    own = chatml.with_template(SWITCHED)
    trained = apply_policy(own)
    save_contract(trained, tmp_path)
    assert check_contract(tmp_path, own).settings == {"enable_thinking": False}
    prompt = render_prompt(trained, SESSION[:2])
    assert render_prompt(contract_tokenizer(own, tmp_path), SESSION[:2]) == prompt
    server = load_tokenizer(tmp_path)
    assert server.encode(server.render_text(SESSION[:2], add_generation_prompt=True)) == prompt


def test_no_request_turns_thinking_on_again(chatml, tmp_path):
    from transformers import PreTrainedTokenizerFast

    save_contract(apply_policy(chatml.with_template(SWITCHED)), tmp_path)
    server = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    messages = [dict(m) for m in SESSION[:2]]
    off, on = (
        server.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=value)
        for value in (False, True)
    )
    assert off == on
    assert off.endswith("</think>\n\n")


def test_a_template_that_opens_no_thought_is_left_alone(chatml, real_pair):
    for tok in (chatml, real_pair("trl-qwen3"), real_pair("trl-glm4moe")):
        assert thinking_off(tok) == {}
        assert apply_policy(tok) is tok


def test_a_switch_that_closes_no_thought_is_ignored(chatml):
    tok = chatml.with_template(ALWAYS + "{# enable_thinking #}")
    assert thinking_off(tok) == {}


def test_a_transformers_tokenizer_has_the_same_fingerprint(chatml, tmp_path):
    from transformers import PreTrainedTokenizerFast

    own = chatml.with_template(SWITCHED)
    own.save(tmp_path)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert take_fingerprint(fast) == take_fingerprint(own)
    assert build_masked_examples(fast, SESSION) == build_masked_examples(own, SESSION)


def test_minijinja_heeds_the_setting(chatml):
    minijinja = pytest.importorskip("minijinja", reason="needs a second engine (pip install minijinja)")
    template = canonical_chat_template(SWITCHED, settings={"enable_thinking": False})
    engine = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
    messages = [dict(m) for m in normalize_for_template(SESSION[:2])]
    other = engine.render_str(template, messages=messages, add_generation_prompt=True)
    assert other == chatml.with_template(template).render_text(SESSION[:2], add_generation_prompt=True)
    assert other.endswith("</think>\n\n")


@pytest.mark.parametrize("template", [DEEPSEEK_V32, LARGE_GEMMA_4], ids=["DeepSeek V3.2", "large Gemma 4"])
def test_a_thought_only_prompts_show_splits_the_session(template, pair, train_tokenizer, assert_serve_exact):
    specials = ["<|user|>", "<|bot|>", "<|im_end|>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"]
    tok = pair(train_tokenizer(specials), template, eos="<|im_end|>")
    examples = build_masked_examples(tok, SESSION)
    assert_serve_exact(tok, SESSION, examples)
    assert [e.turns for e in examples] == [(1,), (3,)]
    prompt = tok.render_text(normalize_for_template(SESSION)[:1], add_generation_prompt=True)
    assert tok.decode(examples[0].input_ids).startswith(prompt + "ls<")
