"""What a request's body may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from tiararodney.sekft.render import Message
from tiararodney.sekft.resident.serving.errors import ApiError
from tiararodney.sekft.resident.serving.requests import CHAT, TEXT, read_completion

ONE = [{"role": "user", "content": "$ "}]


def test_a_chat_is_read_with_openais_defaults() -> None:
    asked = read_completion({"model": "m", "messages": ONE}, CHAT)
    assert (asked.model, asked.messages) == ("m", (Message("user", "$ "),))
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed) == (None, 1.0, 1.0, None)
    assert (asked.stop, asked.stream, asked.logprobs) == ((), False, None)


def test_content_may_come_as_text_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = read_completion({"model": "m", "messages": [{"role": "user", "content": parts}]}, CHAT)
    assert asked.messages[0].content == "ab"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("ls", ("ls",)), ([1, 2], ((1, 2),)), (["a", "b"], ("a", "b")), ([[1], [2, 3]], ((1,), (2, 3)))],
)
def test_prompts_may_be_texts_or_token_ids(prompt: Any, expected: Any) -> None:
    assert read_completion({"model": "m", "prompt": prompt}, TEXT).prompts == expected


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"content": "x"}]}, "messages.0"),
        ({"messages": [*ONE, {"role": "assistant", "content": "", "tool_calls": [{}]}]}, "messages.1.tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": "x"}, "seed"),
        ({"stop": [""]}, "stop"),
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
        read_completion({"model": "m", "messages": ONE} | change, CHAT)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert refused.value.body()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("prompt", [None, "", [], [[]], [1, "a"], [-1], [True], {"text": "x"}])
def test_a_prompt_of_another_shape_is_refused(prompt: Any) -> None:
    if prompt == "":
        assert read_completion({"model": "m", "prompt": ""}, TEXT).prompts == ("",)  # without tokens: refused later
        return
    with pytest.raises(ApiError, match="prompt: found"):
        read_completion({"model": "m", "prompt": prompt}, TEXT)


@pytest.mark.parametrize("change", [{"n": 1}, {"tools": []}, {"presence_penalty": 0}, {"top_k": -1}, {"user": "me"}])
def test_neutral_values_and_labels_are_taken(change: dict[str, Any]) -> None:
    read_completion({"model": "m", "messages": ONE} | change, CHAT)
