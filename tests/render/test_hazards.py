"""One synthetic template for each way a chat template can break a mask."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import (
    Message,
    RefusalReason,
    SessionRefused,
    build_masked_examples,
)

END, START = "<|im_end|>", "<|im_start|>"
SPECIALS = [START, END, "<s>", "</s>", "<|user|>", "<|bot|>"]

_BODY = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
_LOOP = "{% for m in messages %}"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

HAZARDS = {
    "strict_alternation": _LOOP
    + "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
    + _BODY
    + "{% endfor %}"
    + _PROMPT,
    "no_system_role": _LOOP
    + "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    + _BODY
    + "{% endfor %}"
    + _PROMPT,
    "injected_system_prompt": _LOOP
    + "{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"
    + _BODY
    + "{% endfor %}"
    + _PROMPT,
    "injected_date": "{{ '<|im_start|>system\\n' + strftime_now('%Y-%m-%d') + '<|im_end|>\\n' }}"
    + _LOOP
    + _BODY
    + "{% endfor %}"
    + _PROMPT,
    "trimmed_white_space": _LOOP + _BODY.replace("m['content']", "m['content'] | trim") + "{% endfor %}" + _PROMPT,
    "stripped_thoughts": _LOOP
    + "{% set c = m['content'] %}{% if not loop.last and '</think>' in c %}"
    + "{% set c = c.split('</think>')[-1] %}{% endif %}"
    + _BODY.replace("m['content']", "c")
    + "{% endfor %}"
    + _PROMPT,
    "empty_thoughts_in_the_last_turn": _LOOP
    + "{% set t = '<think>\\n\\n</think>\\n\\n' if loop.last and m['role'] == 'assistant' else '' %}"
    + _BODY.replace("m['content']", "t + m['content']")
    + "{% endfor %}"
    + _PROMPT,
    "end_of_turn_is_not_end_of_sequence": _LOOP
    + _BODY
    + "{% endfor %}"
    + _PROMPT
    + "{% if not add_generation_prompt %}</s>{% endif %}",
    "end_of_sequence_after_the_last_turn_only": _LOOP
    + "{{ '<|user|>' if m['role'] == 'user' else '<|bot|>' }}{{ m['content'] }}"
    + "{% if loop.last and m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    + "{% if add_generation_prompt %}<|bot|>{% endif %}",
    "trailing_text": _LOOP
    + _BODY
    + "{% endfor %}"
    + _PROMPT
    + "{% if not add_generation_prompt %}{{ '\\n(end of session)\\n' }}{% endif %}",
    "no_generation_prompt": _LOOP + _BODY + "{% endfor %}",
    "no_bos": _LOOP + _BODY + "{% endfor %}" + _PROMPT,
    "own_bos": "{{ bos_token }}" + _LOOP + _BODY + "{% endfor %}" + _PROMPT,
    "no_end_of_turn_but_the_next_header": _LOOP
    + "{{ '<|user|>' if m['role'] == 'user' else '<|bot|>' }}{{ m['content'] }}{% endfor %}"
    + "{% if add_generation_prompt %}<|bot|>{% endif %}",
    "history_told_in_the_system_turn": "{{ '<|im_start|>system\\n%d turns<|im_end|>\\n' % (messages | length) }}"
    + _LOOP
    + _BODY
    + "{% endfor %}"
    + _PROMPT,
    "a_space_before_the_reply": "{{ bos_token }}"
    + _LOOP
    + "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    + "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
    "no_marker_is_a_token": "{{ bos_token }}"
    + _LOOP
    + "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    + "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
}

_piece = st.sampled_from(
    [
        "ls",
        "[ -d x ]",
        "(",
        "]",
        "exit",
        " ",
        "\n",
        "$ ",
        "é",
        "漢",
        "🙂",
        "12",
        "</s>",
        "<|im_end|>",
        "[/INST]",
        "assistant\n",
    ]
)
_output = st.lists(_piece, max_size=8).map("".join)
_reply = _output.map(lambda t: t.strip() or "ls")
_thought = st.tuples(st.sampled_from(["", "<think>hm</think>", "<think>\nso\n</think>\n\n"]), _reply).map("".join)
_turns = st.lists(st.tuples(_thought, _output), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def backend(train_tokenizer):
    return train_tokenizer(SPECIALS)


def _session(turns):
    out = [Message("user", "Welcome\n$ ")]
    for reply, output in turns:
        out += [Message("assistant", reply), Message("user", output + "\n$ ")]
    return out[:-1]


@pytest.mark.parametrize("hazard", HAZARDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=_turns)
def test_every_turn_is_trained_as_it_is_served(hazard, backend, pair, assert_serve_exact, turns):
    tok = pair(backend, HAZARDS[hazard], "<s>", "</s>")
    session = _session(turns)
    assert_serve_exact(tok, session, build_masked_examples(tok, session))


@pytest.mark.parametrize(
    ("hazard", "examples"),
    [
        ("strict_alternation", 1),
        ("injected_system_prompt", 1),
        ("injected_date", 1),
        ("trimmed_white_space", 1),
        ("end_of_turn_is_not_end_of_sequence", 1),
        ("trailing_text", 1),
        ("empty_thoughts_in_the_last_turn", 1),
        ("stripped_thoughts", 1),
        ("own_bos", 1),
        ("a_space_before_the_reply", 1),
        ("no_generation_prompt", 3),
        ("history_told_in_the_system_turn", 3),
        ("end_of_sequence_after_the_last_turn_only", 3),
    ],
)
def test_a_session_becomes_the_fewest_examples(hazard, examples, backend, pair):
    tok = pair(backend, HAZARDS[hazard], "<s>", "</s>")
    session = _session([("ls", "a"), ("cat a", "b"), ("exit", "")])
    assert len(build_masked_examples(tok, session)) == examples


def test_a_stripped_thought_costs_one_more_example(backend, pair):
    tok = pair(backend, HAZARDS["stripped_thoughts"], "<s>", "</s>")
    session = _session([("ls", "a"), ("<think>hm</think>cat a", "b"), ("wc a", "c"), ("exit", "")])
    assert [e.turns for e in build_masked_examples(tok, session)] == [(3,), (1, 5, 7)]


REFUSED = {
    RefusalReason.TEMPLATE_REFUSES: "{{ raise_exception('never') }}",
    RefusalReason.REPLY_REWRITTEN: _LOOP
    + _BODY.replace("m['content']", "m['content'] | upper")
    + "{% endfor %}"
    + _PROMPT,
    RefusalReason.NO_END_OF_TURN: _LOOP + "{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    RefusalReason.PROMPT_DIVERGES: _LOOP
    + _BODY
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant (careful)\\n' }}{% endif %}",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_template_that_cannot_be_served_exactly_is_refused(reason, backend, pair):
    tok = pair(backend, REFUSED[reason], "<s>", "</s>")
    with pytest.raises(SessionRefused) as caught:
        build_masked_examples(tok, _session([("ls", "a"), ("exit", "")]))
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], RefusalReason.NOT_A_CHAT),
        ([("assistant", "ls")], RefusalReason.NOT_A_CHAT),
        ([("system", "A terminal."), ("assistant", "ls")], RefusalReason.NOT_A_CHAT),
        ([("tool", "x")], RefusalReason.TOOL_CALL),
        ([("robot", "x")], RefusalReason.NOT_A_CHAT),
        ([("user", "$ ")], RefusalReason.NO_REPLY),
        ([("user", "$ "), ("assistant", "ls"), ("user", "$ ")], RefusalReason.ENDS_IN_USER_TURN),
    ],
)
def test_what_is_no_session_is_refused(messages, reason, chatml):
    with pytest.raises(SessionRefused) as caught:
        build_masked_examples(chatml, [{"role": r, "content": c} for r, c in messages])
    assert caught.value.reason is reason
