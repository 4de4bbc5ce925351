"""Turns that are context only, and what each token counts."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import (
    IGNORED,
    Example,
    Message,
    RefusalReason,
    SessionRefused,
    build_masked_examples,
    normalize_for_template,
    weigh_terminal,
)


def session(*flags):
    """A session of three replies; `flags` are further keys of each."""
    out = [{"role": "user", "content": "$ "}]
    for reply, more in zip(("rm x", "ls", "exit"), flags, strict=True):
        out += [{"role": "assistant", "content": reply, **more}, {"role": "user", "content": "a\n$ "}]
    return out[:-1]


def trained(tok, examples):
    return [tok.decode(e.input_ids[a:b]) for e in examples for a, b in e.spans]


@pytest.mark.parametrize("mistake", [{"train": False}, {"weight": 0}, {"weight": 0.0}, {"train": False, "weight": 0}])
def test_a_masked_turn_is_context_and_no_target(chatml, mistake):
    (example,) = build_masked_examples(chatml, session(mistake, {"train": True}, {"weight": 1}))
    assert trained(chatml, [example]) == ["ls<|im_end|>", "exit<|im_end|>"]
    (begin, end) = example.masked[0]
    assert chatml.decode(example.input_ids[begin:end]) == "rm x<|im_end|>"
    assert set(example.labels[begin:end]) == {IGNORED}
    assert example.input_ids == build_masked_examples(chatml, session({}, {}, {}))[0].input_ids


def test_trained_turns_around_masked_ones_are_served_exactly(real, judge_trained):
    messages = session({}, {"weight": 0}, {})
    judge_trained(real, messages, build_masked_examples(real, messages), {1, 5})


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(train=st.lists(st.booleans(), min_size=1, max_size=5), reply=st.sampled_from(["ls", "[ -d x ]", "a  b", "(x)"]))
def test_exactly_the_turns_to_train_are_trained(real, judge_trained, train, reply):
    messages = [{"role": "user", "content": "$ "}]
    for flag in train:
        messages += [{"role": "assistant", "content": reply, "train": flag}, {"role": "user", "content": "a\n$ "}]
    wanted = {2 * n + 1 for n, flag in enumerate(train) if flag}
    if not wanted:
        with pytest.raises(SessionRefused, match="train: false"):
            build_masked_examples(real, messages[:-1])
        return
    examples = build_masked_examples(real, messages[:-1])
    judge_trained(real, messages[:-1], examples, wanted)
    for example in examples:
        for start, stop in example.masked:
            assert set(example.labels[start:stop]) == {IGNORED}
            assert reply in real.decode(example.input_ids[max(0, start - 8) : stop])


def test_a_masked_terminal_ends_the_example_before_it(chatml):
    (example,) = build_masked_examples(chatml, session({}, {}, {"train": False}))
    assert trained(chatml, [example]) == ["rm x<|im_end|>", "ls<|im_end|>"]
    assert not example.final


def test_a_merged_turn_with_a_mistake_is_masked():
    first = {"role": "assistant", "content": "rm x", "train": False}
    merged = normalize_for_template([{"role": "user", "content": "$ "}, first, {"role": "assistant", "content": "ls"}])
    assert [(m.content, m.train) for m in merged] == [("$ ", True), ("rm x\nls", False)]
    assert [m.train for m in normalize_for_template(merged)] == [True, False]


def test_a_session_of_masked_turns_is_refused(chatml):
    with pytest.raises(SessionRefused, match="train: false or weight: 0") as caught:
        build_masked_examples(chatml, session(*[{"train": False}] * 3))
    assert caught.value.reason is RefusalReason.NO_REPLY


@pytest.mark.parametrize("reply", ["", "  ", "\n"])
def test_an_empty_reply_is_refused_unless_masked(chatml, reply):
    messages = session({}, {}, {})
    messages[3] |= {"content": reply}
    with pytest.raises(SessionRefused) as caught:
        build_masked_examples(chatml, messages)
    assert (caught.value.reason, caught.value.turn) == (RefusalReason.EMPTY_REPLY, 3)
    messages[3] |= {"train": False}
    assert trained(chatml, build_masked_examples(chatml, messages)) == ["rm x<|im_end|>", "exit<|im_end|>"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tool_calls": [{"id": "1"}]}, RefusalReason.TOOL_CALL),
        ({"function_call": {"name": "x"}}, RefusalReason.TOOL_CALL),
        ({"role": "tool"}, RefusalReason.TOOL_CALL),
        ({"content": "a\ud800"}, RefusalReason.NOT_A_CHAT),
    ],
)
def test_what_is_no_command_is_refused_by_name(chatml, changes, reason):
    messages = session({}, {}, {})
    messages[3] |= changes
    with pytest.raises(SessionRefused) as caught:
        build_masked_examples(chatml, messages)
    assert (caught.value.reason, caught.value.turn) == (reason, 3)


def test_every_position_has_a_weight(chatml):
    (example,) = build_masked_examples(chatml, session({}, {"weight": 0}, {}))
    assert list(example.weights) == [float(label != IGNORED) for label in example.labels]


def test_a_terminal_can_weigh_more(chatml):
    (example,) = build_masked_examples(chatml, session({}, {}, {}))
    begin, end = example.spans[-1]
    weighed = weigh_terminal(example, 3.0)
    assert list(weighed.weights) == [*example.weights[:begin], *[3.0] * (end - begin)]
    assert weigh_terminal(example, 1.0) is example


def test_an_example_without_its_terminal_keeps_its_weights():
    example = Example([1, 2], [IGNORED, 2], (1,), ((1, 2),))
    assert list(weigh_terminal(example, 3.0).weights) == [0.0, 1.0]


def test_a_message_with_a_flag_reads_as_one_without():
    assert dict(Message("assistant", "ls", train=False)) == {"role": "assistant", "content": "ls"}
