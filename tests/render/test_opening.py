"""Templates that look at a session's end before they write its first turn."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, build_masked_examples
from tiararodney.sekft.render.canonical import ESCAPE
from tiararodney.sekft.render.fingerprint import contract_template
from tiararodney.sekft.render.opening import Opening
from tiararodney.sekft.render.template import render_served

BODY = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
SPACE = "{% set ns = namespace(open=true, last=messages | length - 1) %}"
BACKWARDS = (
    SPACE
    + "{% for m in messages[::-1] %}{% set at = (messages | length - 1) - loop.index0 %}"
    + "{% if ns.open and m.role == 'user' and not m.content.startswith('<tool_response>') %}"
    + "{% set ns.open = false %}{% set ns.last = at %}{% endif %}{% endfor %}"
)
FORWARDS = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
)
COUNTED = (
    "{% set ns = namespace(last=-1) %}{% for i in range(messages | length) %}"
    "{% if messages[i].role == 'user' %}{% set ns.last = i %}{% endif %}{% endfor %}"
)
MACRO = "{% macro f(m) %}{{ m.content | trim }}{% endmacro %}" + FORWARDS


def loop(body=BODY, over="messages"):
    return "{% for m in " + over + " %}" + body + "{% endfor %}"


def asks(test, body=BODY):
    return loop("{% if " + test + " %}<think></think>{% endif %}" + body)


# The end decides, and what it decides is the same for every prompt.
SAME = {
    "a comparison": BACKWARDS + asks("loop.index0 > ns.last"),
    "counted from one": BACKWARDS + asks("loop.index > ns.last + 1"),
    "one counted from one": BACKWARDS + asks("ns.last < loop.index - 1"),
    "the other way round": BACKWARDS + asks("ns.last < loop.index0"),
    "one of two questions": BACKWARDS + asks("loop.index0 > ns.last and m.role == 'assistant'"),
    "forwards": FORWARDS + asks("loop.index0 > ns.last"),
    "counted": COUNTED + asks("loop.index0 > ns.last"),
    "a macro": MACRO + asks("loop.index0 > ns.last", "<|im_start|>{{ f(m) }}<|im_end|>"),
    "a variable": "{% set last = messages | length - 1 %}" + asks("loop.index0 > last"),
    "an answer": "{% set many = messages | length > 0 %}" + asks("many"),
    "the same for all": FORWARDS + "{{ ns.last >= 0 }}" + loop(),
    "not looked at": FORWARDS + loop(),
    "something else of it": BACKWARDS + asks("ns.open"),
    "closes with an answer": "{% set many = messages | length > 0 %}" + loop() + "{{ many }}",
    "marked for training": FORWARDS
    + loop(
        "{% generation %}{% if loop.index0 > ns.last and m.role == 'assistant' %}x{% endif %}"
        + BODY
        + "{% endgeneration %}"
    ),
    "two loops": loop("") + loop(),
}
# These need more than an order of counts, and are not taken for less.
NOT_SEEN = {"counted from one", "one counted from one"}
DIFFERS = {
    "prints it": BACKWARDS + loop("{{ ns.last }}" + BODY),
    "prints it first": BACKWARDS + "{{ ns.last }}" + loop(),
    "prints it last": BACKWARDS + loop() + "{{ ns.last }}",
    "the last turn": BACKWARDS + asks("loop.index0 >= ns.last"),
    "that turn": BACKWARDS + asks("loop.index0 == ns.last"),
    "any other turn": BACKWARDS + asks("loop.index0 != ns.last"),
    "before it": BACKWARDS + asks("loop.index0 < ns.last"),
    "up to it, from one": BACKWARDS + asks("ns.last >= loop.index"),
    "a loop within": BACKWARDS + loop("{% for x in 'abcdefg' %}{{ loop.index0 > ns.last }}{% endfor %}" + BODY),
    "changed on the way": BACKWARDS + loop("{% set ns.last = ns.last - 1 %}{{ loop.index0 > ns.last }}" + BODY),
    "asked by a macro": FORWARDS + "{% macro f(i) %}{{ i > ns.last - 3 }}{% endmacro %}" + loop("{{ f(loop.index0) }}"),
    "handed on": BACKWARDS + "{% set other = ns %}" + loop("{{ loop.index0 > ns.last }}{{ other.last }}"),
    "a separator": "{% set comma = joiner(',') %}{% set n = messages | length %}" + loop("{{ comma() }}" + BODY),
    "another's count": "{% macro f() %}{{ caller({'index0': 4}) }}{% endmacro %}"
    + BACKWARDS
    + loop("{% call(loop) f() %}{{ loop.index0 > ns.last }}{% endcall %}" + BODY),
    "in a list": BACKWARDS + "{% set box = [ns.last] %}" + loop("{{ box[0] }}"),
    "a list that holds it": BACKWARDS + "{% set box = [ns] %}" + loop("{{ box[0].last }}{{ loop.index0 > ns.last }}"),
    "subscribed": BACKWARDS + loop("{{ loop.index0 > ns.last }}{{ ns['last'] }}"),
    "who is last": "{% set last = messages[-1].role %}" + asks("last == 'user'"),
    "closes with the last": "{% set last = messages[-1].role %}" + loop() + "{{ last }}",
    "how many": "{% set many = messages | length %}" + loop("{{ many }}"),
    "the rest of it": "{% set back = messages[::-1] %}" + loop("{{ back | length }}"),
    "read once": "{% set roles = messages | map(attribute='role') %}" + loop("{{ roles | list | length }}"),
    "set twice": "{% set n = messages | length %}{% macro f() %}{{ n }}{% endmacro %}" + loop("{{ f() }}"),
    "backwards": loop(over="messages[::-1]"),
    "filtered": "{% set n = messages | length %}{% filter upper %}x{% endfilter %}" + loop("{{ n }}"),
}
SESSION = [Message("user", "$ ")]
for _n, _reply in enumerate(("ls", "cat a", "[ -d x ]", "exit")):
    SESSION += [Message("assistant", _reply), Message("user", f"out {_n}\n$ ")]
SESSION.pop()
TURNS = set(range(1, len(SESSION), 2))


def held(tok, session):
    """The prompts that the pieces of a session are said to hold, each held against its own rendering."""
    pieces = tok.render_pieces(session)
    out = {i for i in range(1, len(session)) if pieces is not None and pieces.final(i)}
    for i in out:
        made = pieces.opening + "".join(pieces.messages[:i]) + pieces.closing
        assert made == tok.render_text(session[:i], add_generation_prompt=True), i
    return out


@pytest.mark.parametrize("name", SAME)
def test_what_the_end_decides_alike_for_every_prompt_is_rendered_once(name, chatml):
    tok = chatml.with_template(SAME[name] + PROMPT)
    assert (held(tok, SESSION) >= TURNS) is (name not in NOT_SEEN)


@pytest.mark.parametrize("name", DIFFERS)
def test_what_the_end_decides_otherwise_is_not_taken_for_the_same(name, chatml):
    tok = chatml.with_template(DIFFERS[name] + PROMPT)
    # The last prompt may well come to the same: the session's end is a reply, and no question.
    assert not (TURNS - {max(TURNS)}) & held(tok, SESSION)


@pytest.fixture
def all_alike(monkeypatch):
    """A wrong proof: every opening is taken for the same."""
    monkeypatch.setattr(Opening, "alike", lambda *_: True)


@pytest.mark.usefixtures("all_alike")
@pytest.mark.parametrize("name", ["prints it", "the last turn", "changed on the way"])
def test_a_wrong_proof_is_seen_by_the_judge_of_these_tests(name, chatml):
    with pytest.raises(AssertionError):
        held(chatml.with_template(DIFFERS[name] + PROMPT), SESSION)


@pytest.mark.usefixtures("all_alike")
@pytest.mark.parametrize("name", ["prints it", "prints it first", "how many"])
def test_a_wrong_proof_is_seen_when_prompts_are_held_against_those_served(name, chatml):
    tok = chatml.with_template(DIFFERS[name] + PROMPT)
    served = render_served(tok, SESSION, sorted(TURNS))
    assert served.pieces is None
    assert served.prompts == {i: tok.render_text(SESSION[:i], add_generation_prompt=True) for i in TURNS}


def test_a_prompt_whose_end_decides_otherwise_is_rendered_by_itself(chatml, assert_serve_exact):
    session = list(SESSION)
    session[4] = Message("user", "<tool_response>")
    tok = chatml.with_template(BACKWARDS + asks("loop.index0 > ns.last and m.role == 'assistant'") + PROMPT)
    assert held(tok, session) & TURNS == TURNS - {5}
    assert_serve_exact(tok, session, build_masked_examples(tok, session))


@pytest.mark.parametrize("name", ["trl-qwen3", "trl-qwen3_5_think", "trl-nemotron_3_nano", "trl-glm4moe"])
def test_published_templates_that_look_at_the_end_first_are_rendered_once(name, real_pair):
    assert held(real_pair(name), SESSION) >= TURNS


def canonical(tok, policy):
    """The tokenizer with its template normalising by itself, its clock stopped and its thoughts turned off."""
    return tok.with_template(contract_template(tok, policy, datetime(2026, 11, 23, tzinfo=UTC)))


@pytest.mark.parametrize("policy", ["keep", "escape"])
@pytest.mark.parametrize("name", ["trl-qwen3", "trl-qwen3_5_think", "trl-llama3_1", "trl-nemotron_3_nano"])
def test_templates_that_normalise_by_themselves_are_rendered_once(name, policy, real_pair, assert_serve_exact):
    tok = canonical(real_pair(name), policy)
    assert held(tok, SESSION) >= TURNS
    escaped = tok.render_pieces([*SESSION[:2], Message("user", "a " + next(iter(tok.control_tokens)))])
    assert (ESCAPE in escaped.messages[2]) is (policy == "escape")


@pytest.mark.parametrize("policy", ["keep", "escape"])
def test_a_session_that_is_normalised_on_the_way_is_not_taken_apart(policy, chatml):
    tok = canonical(chatml, policy)
    for session in (
        [Message("system", "A terminal."), *SESSION],
        [*SESSION[:1], *SESSION],
        [*SESSION, SESSION[-1]],
    ):
        assert held(tok, session) == set()
    assert held(tok, SESSION) >= TURNS


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    contents=st.lists(st.sampled_from(["ls", "", "$ ", "</think>x", "<|im_end|>"]), min_size=2, max_size=7),
    policy=st.sampled_from(["keep", "escape"]),
)
def test_published_templates_that_normalise_by_themselves_hold_what_they_are_said_to(published, contents, policy):
    name, tok = published
    session = [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(contents)]
    try:
        tok.render_text(session[:1], add_generation_prompt=True)
    except Exception:  # noqa: BLE001 - a template raises what it likes
        pytest.skip(f"{name} takes no text")
    held(canonical(tok, policy), session)


OPENINGS = ["", BACKWARDS, FORWARDS, COUNTED, SPACE, BACKWARDS + "{% set ns = namespace(last=ns.last, open=1) %}"]
OPENINGS += [FORWARDS + "{% set ns.last = ns.last " + by + " %}" for by in ("- 2", "* 0", "// 2")]
OPENINGS += ["{% set ns = namespace(last=" + what + ") %}" for what in ("'a'", "1.5", "true", "messages[-1].role")]
BODIES = [asks(f"loop.{count} {op} ns.last") for count in ("index0", "index") for op in ("<", "<=", ">", ">=", "==")]
BODIES += [asks(f"ns.last {op} loop.{count}") for count in ("index0", "index") for op in ("<", "<=", ">", ">=", "!=")]
BODIES += [asks("ns.open or loop.index0 > ns.last"), loop("{{ ns.last }}"), asks("loop.index0 - 1 > ns.last")]
_content = st.sampled_from(["ls", "", "$ ", "</think>x", "<tool_response>", "out\n$ "])


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=st.sampled_from(OPENINGS),
    body=st.sampled_from(BODIES),
    more=st.sampled_from(["", *BODIES]),
    contents=st.lists(_content, min_size=2, max_size=9),
)
def test_no_prompt_is_held_that_is_not_what_is_served(chatml, before, body, more, contents):
    tok = chatml.with_template(before + body.replace("{% endfor %}", more.removesuffix("{% endfor %}")) + PROMPT)
    session = [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(contents)]
    try:
        tok.render_text(session[:1], add_generation_prompt=True)
    except Exception:  # noqa: BLE001 - text is no number: the template fails, as it is served
        return
    held(tok, session)


def test_a_session_four_times_as_long_is_not_looked_through_once_for_each_prompt(chatml, monkeypatch):
    from tiararodney.sekft.render import sandbox

    asked = []
    getattr_ = sandbox.QuickSandbox.getattr
    monkeypatch.setattr(sandbox.QuickSandbox, "getattr", lambda *a: (asked.append(a[2]), getattr_(*a))[1])
    tok = chatml.with_template(BACKWARDS + asks("loop.index0 > ns.last and m.role == 'assistant'") + PROMPT)
    counts = []
    for turns in (10, 40, 160):
        asked.clear()
        build_masked_examples(tok, [Message("user", "$ "), *SESSION[1:3] * (turns - 1), SESSION[-1]])
        counts.append(len(asked) / turns)
    assert max(counts) < 1.5 * min(counts)
