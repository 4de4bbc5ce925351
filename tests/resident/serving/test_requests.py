"""What a request's body may ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiararodney.sekft.resident.serving.requests import ApiError, Chat, Load, Text, read

ONE = [{"role": "user", "content": "$ "}]


def chat(**fields: Any) -> Chat:
    return read(Chat, json.dumps({"model": "m", "messages": ONE} | fields).encode())


def text(prompt: Any) -> Text:
    return read(Text, json.dumps({"model": "m", "prompt": prompt}).encode())


def test_a_chat_is_read_with_openais_defaults() -> None:
    asked = chat()
    assert (asked.model, [(m.role, m.content) for m in asked.messages]) == ("m", [("user", "$ ")])
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed) == (None, 1.0, 1.0, None)
    assert (asked.stop, asked.stream, asked.alternatives) == ([], False, None)


def test_null_stands_for_a_field_that_is_not_there() -> None:
    assert chat(temperature=None, seed=None, tools=None, max_tokens=None) == chat()


def test_limits_and_alternatives_go_by_their_several_names() -> None:
    assert [chat(max_tokens=3).max_tokens, chat(max_completion_tokens=4).max_tokens] == [3, 4]
    assert [chat(logprobs=True).alternatives, chat(logprobs=True, top_logprobs=2).alternatives] == [0, 2]
    assert chat(stop="x").stop == ["x"]


def test_content_may_come_as_text_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0].content == "ab"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("ls", ["ls"]), ([1, 2], [[1, 2]]), (["a", "b"], ["a", "b"]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_may_be_texts_or_token_ids(prompt: Any, expected: Any) -> None:
    assert text(prompt).prompt == expected


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [*ONE, {"role": "assistant", "content": "", "tool_calls": [{}]}]}, "messages.1.tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": "x"}, "seed"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": 3}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"logprobs": True, "top_logprobs": 99}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
    ],
)
def test_what_cannot_be_taken_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        chat(**change)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert refused.value.body()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("prompt", [None, [], [[]], [1, "a"], [-1], [True], {"text": "x"}])
def test_a_prompt_of_another_shape_is_refused(prompt: Any) -> None:
    with pytest.raises(ApiError, match="prompt: found") as refused:
        text(prompt)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize("body", [b"{", b"[" * 30_000, b"[]", b"3", b'{"lora_name": "\\ud800"}', b"\xff"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="body: found"):
        read(Load, body)


@pytest.mark.parametrize("change", [{"n": 1}, {"tools": []}, {"presence_penalty": 0}, {"top_k": -1}, {"user": "me"}])
def test_neutral_values_and_labels_are_taken(change: dict[str, Any]) -> None:
    assert chat(**change) == chat()
