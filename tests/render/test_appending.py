"""Which templates are seen to only append, and that those which do more are not."""

from __future__ import annotations

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tiararodney.sekft.render import Message, build_masked_examples
from tiararodney.sekft.render.appending import marked

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
    "a macro": "{% macro f(m) %}{{ m.content }}{% endmacro %}" + loop("{{ f(m) }}") + PROMPT,
    "the clock": "{{ strftime_now('%H') }}" + loop() + PROMPT,
    "at random": loop("{{ [1, 2] | random }}" + BODY) + PROMPT,
    "a cycle": loop("{{ loop.cycle('a', 'b') }}" + BODY) + PROMPT,
    "sets messages": "{% set messages = messages[1:] %}" + loop() + PROMPT,
    "calls itself": "{% set ms = messages %}" + loop("{% set ms = 1 %}" + BODY, over="ms") + PROMPT,
}
ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)


@pytest.mark.parametrize("name", APPENDS)
def test_a_template_that_only_appends_is_seen_to(name):
    assert marked(ENVIRONMENT.parse(APPENDS[name]), "|") is not None


@pytest.mark.parametrize("name", DOES_MORE)
def test_a_template_that_does_more_is_not_taken_for_one(name):
    assert marked(ENVIRONMENT.parse(DOES_MORE[name]), "|") is None


@pytest.mark.parametrize("name", APPENDS)
def test_pieces_give_the_examples_that_single_renderings_give(name, chatml):
    tok = chatml.with_template(APPENDS[name])
    session = [Message("user", "$ ")]
    for reply in ("ls", "cat a", "[ -d x ]", "exit"):
        session += [Message("assistant", reply), Message("user", "out\n$ ")]
    assert tok.render_pieces(session) is not None
    slow = type("Slow", (), {"__getattr__": lambda _, n: None if n == "render_pieces" else getattr(tok, n)})()
    assert build_masked_examples(tok, session[:-1]) == build_masked_examples(slow, session[:-1])


def test_pieces_that_do_not_make_the_prompt_are_not_used(chatml):
    wrong = type(
        "Wrong",
        (),
        {
            "__getattr__": lambda _, n: (
                (lambda m: ["", *["x"] * len(m), ""]) if n == "render_pieces" else getattr(chatml, n)
            )
        },
    )()
    session = [Message("user", "$ "), Message("assistant", "ls"), Message("user", "$ "), Message("assistant", "exit")]
    assert build_masked_examples(wrong, session) == build_masked_examples(chatml, session)
