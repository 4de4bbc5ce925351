"""Which prompts one rendering is seen to hold, and that it holds them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, SessionRefused, build_masked_examples

BODY = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


def loop(body=BODY, over="messages"):
    return "{% for m in " + over + " %}" + body + "{% endfor %}"


APPENDS = {
    "plain": loop() + PROMPT,
    "first message": "{{ messages[0]['role'] }}" + loop("{{ loop.first }}{{ messages[0].role }}" + BODY) + PROMPT,
    "another name": "{% set ms = messages %}" + loop(over="ms") + PROMPT,
    "the rest": "{% set ms = messages %}{% if messages[0].role == 'user' %}{% set ms = messages[0:] %}{% endif %}"
    + loop(over="ms")
    + PROMPT,
    "separates": "{% set comma = joiner(',') %}" + loop("{{ comma() }}" + BODY) + PROMPT,
    "counts what was": "{% set ns = namespace(n=0) %}" + loop("{% set ns.n = ns.n + 1 %}{{ ns.n }}" + BODY) + PROMPT,
}
DOES_MORE = {
    "asks for the last": loop("{% if loop.last %}x{% endif %}" + BODY) + PROMPT,
    "asks for the next": loop("{{ loop.nextitem is defined }}" + BODY) + PROMPT,
    "counts the rest": loop("{{ loop.revindex }}" + BODY) + PROMPT,
    "asks for the length": loop("{{ loop.length }}" + BODY) + PROMPT,
    "subscripts the loop": loop("{{ loop['last'] }}" + BODY) + PROMPT,
    "counts messages": "{{ messages | length }}" + loop() + PROMPT,
    "reads the last message": "{{ messages[-1]['content'] }}" + loop() + PROMPT,
    "looks ahead": loop("{{ messages[loop.index0 + 1] }}" + BODY) + PROMPT,
    "drops the end": loop(over="messages[:-1]") + PROMPT,
    "backwards": loop(over="messages[::-1]") + PROMPT,
    "selects": loop(over="messages | selectattr('role', 'equalto', 'user')") + PROMPT,
    "another rest": loop(over="messages[-2:]") + PROMPT,
    "breaks off": loop("{% if loop.index > 2 %}{% break %}{% endif %}" + BODY) + PROMPT,
    "knows it is served": loop("{% if add_generation_prompt %}x{% endif %}" + BODY) + PROMPT,
    "knows before": PROMPT + loop() + PROMPT,
    "closes with what was": "{% set ns = namespace(n=0) %}"
    + loop("{% set ns.n = ns.n + 1 %}" + BODY)
    + "{{ ns.n }}"
    + PROMPT,
    "closes with a message": loop() + "{{ messages[0].content }}" + PROMPT,
    "twice": loop() + loop() + PROMPT,
    "within a condition": "{% if true %}" + loop() + "{% endif %}" + PROMPT,
    "else": "{% for m in messages %}x{% else %}y{% endfor %}" + PROMPT,
    "filtered": "{% for m in messages if m.role == 'user' %}x{% endfor %}" + PROMPT,
    "recursive": "{% for m in messages recursive %}x{% endfor %}" + PROMPT,
    "at random": loop("{{ [1, 2] | random }}" + BODY) + PROMPT,
    "sets messages": "{% set messages = messages[1:] %}" + loop() + PROMPT,
    "calls itself": "{% set ms = messages %}" + loop("{% set ms = 1 %}" + BODY, over="ms") + PROMPT,
}
# What these would do further on depends on more; they do not do it, or only where no prompt ends.
UNTAKEN = {
    "a tool's turn": loop(
        BODY + "{% if m.role == 'tool' and (loop.last or messages[loop.index0 + 1].role != 'tool') %}x{% endif %}"
    )
    + PROMPT,
    "the last reply": loop("{% if m.role == 'assistant' and loop.last %}x{% endif %}" + BODY) + PROMPT,
    "tools": "{% if tools %}{{ messages[-1].content }}{% endif %}" + loop() + PROMPT,
    "a system turn": "{% if messages[0].role == 'system' %}{% set messages = messages[1:] %}{% endif %}"
    + loop()
    + PROMPT,
    "any messages": "{% if messages %}x{% endif %}" + loop() + PROMPT,
    "a macro": "{% macro f(m) %}{{ m.content }}{% endmacro %}" + loop("{{ f(m) }}" + BODY) + PROMPT,
    "the clock": "{{ strftime_now('%Y') }}" + loop() + PROMPT,
    "a cycle": loop("{{ loop.cycle('a', 'b') }}" + BODY) + PROMPT,
}
SESSION = [Message("user", "$ ")]
for _reply in ("ls", "cat a", "[ -d x ]", "exit"):
    SESSION += [Message("assistant", _reply), Message("user", "out\n$ ")]
SESSION.pop()
TURNS = range(1, len(SESSION), 2)


def slow(tok):
    """The same tokenizer, telling no pieces."""
    return type("Slow", (), {"__getattr__": lambda _, n: None if n == "render_pieces" else getattr(tok, n)})()


def examples(tok, session):
    try:
        return build_masked_examples(tok, session)
    except SessionRefused as refused:
        return str(refused)


def held(tok, session):
    """The prompts that the pieces of a session are said to hold, each held against its own rendering."""
    pieces = tok.render_pieces(session)
    if pieces is None:
        return []
    out = [i for i in range(1, len(session)) if pieces.final(i)]
    for i in out:
        made = pieces.opening + "".join(pieces.messages[:i]) + pieces.closing
        assert made == tok.render_text(session[:i], add_generation_prompt=True)
    return out


@pytest.mark.parametrize("name", [*APPENDS, *UNTAKEN])
def test_a_template_that_appends_is_rendered_once(name, chatml):
    tok = chatml.with_template((APPENDS | UNTAKEN)[name])
    assert set(TURNS) <= set(held(tok, SESSION))
    assert examples(tok, SESSION) == examples(slow(tok), SESSION)


@pytest.mark.parametrize("name", DOES_MORE)
def test_a_template_that_does_more_is_not_taken_for_one_that_appends(name, chatml):
    tok = chatml.with_template(DOES_MORE[name])
    assert not set(TURNS) & set(held(tok, SESSION))
    if name != "at random":
        assert examples(tok, SESSION) == examples(slow(tok), SESSION)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents=st.lists(st.sampled_from(["ls", "", "$ ", "</think>x", "<tool_response>"]), min_size=2, max_size=7))
def test_published_templates_hold_what_they_are_said_to(published, contents):
    name, tok = published
    session = [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(contents)]
    try:
        tok.render_text(session[:1], add_generation_prompt=True)
    except Exception:  # noqa: BLE001 - a template raises what it likes
        pytest.skip(f"{name} takes no text")
    held(tok, session)


@pytest.mark.parametrize("name", ["trl-qwen2_5", "trl-llama3_1", "trl-gemma3", "trl-phi3", "smollm2", "mistral-v3"])
def test_common_families_are_rendered_once(name, real_pair):
    assert set(TURNS) <= set(held(real_pair(name), SESSION))


def test_pieces_that_do_not_make_the_prompt_are_not_used(chatml):
    from tiararodney.sekft.render.appending import Pieces

    def wrong(messages):
        return Pieces("", ["x"] * len(messages), "", [0.0] * len(messages))

    liar = type("Liar", (), {"__getattr__": lambda _, n: wrong if n == "render_pieces" else getattr(chatml, n)})()
    assert build_masked_examples(liar, SESSION) == build_masked_examples(chatml, SESSION)


def test_a_transformers_tokenizer_renders_no_more_than_two_prompts(chatml, tmp_path, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    chatml.save(tmp_path)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    asked = []
    apply = PreTrainedTokenizerFast.apply_chat_template
    monkeypatch.setattr(
        PreTrainedTokenizerFast, "apply_chat_template", lambda *a, **k: (asked.append(len(a[1])), apply(*a, **k))[1]
    )
    assert build_masked_examples(fast, SESSION) == build_masked_examples(chatml, SESSION)
    assert asked == [1, 3]
