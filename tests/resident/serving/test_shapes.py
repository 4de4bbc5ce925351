"""Replies in OpenAI's shapes, made of tokens by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tiararodney.sekft.resident.serving import replies as shapes
from tiararodney.sekft.resident.serving.replies import Reply
from tiararodney.sekft.resident.serving.requests import Chat, Text, read

ONE = [{"role": "user", "content": "$ "}]


def decode(ids: Any) -> str:
    return bytes(ids).decode("utf-8", "replace")


def token(text: str, logprob: float = -0.5) -> Any:
    (byte,) = text.encode()
    return SimpleNamespace(id=byte, logprob=logprob, top=((byte, logprob), (ord("z"), -3.0)))


def replies(kind: type[Chat | Text], text: str, *, ended: bool = True, stopped: bool = True, **fields: Any) -> Any:
    """Return a request's single reply, with its text's bytes as tokens."""
    body = {"model": "m", **({"messages": ONE} if kind is Chat else {"prompt": [1, 2]}), **fields}
    reply = Reply([1, 2, 3], decode, fields.get("stop", ()))
    for character in text:
        reply.add(token(character).id)
    if ended:
        tokens = tuple(map(token, text))
        reply.done = SimpleNamespace(tokens=tokens, stopped=stopped, cached_tokens=2)  # type: ignore[assignment]
    served = SimpleNamespace(tokenizer=SimpleNamespace(decode=decode))
    asked = read(kind, json.dumps(body).encode())
    return SimpleNamespace(asked=asked, replies=[reply], served=served, id="x-1", created=5)


def test_a_whole_chat_has_a_message_and_a_whole_text_a_text() -> None:
    chat, text = shapes.whole(replies(Chat, "ls")), shapes.whole(replies(Text, "ls"))
    assert {k: chat[k] for k in ("id", "object", "created", "model")} == {
        "id": "x-1", "object": "chat.completion", "created": 5, "model": "m",
    }  # fmt: skip
    assert text["object"] == "text_completion"
    message = {"role": "assistant", "content": "ls"}
    assert chat["choices"] == [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}]
    assert text["choices"] == [{"index": 0, "finish_reason": "stop", "text": "ls", "logprobs": None}]


@pytest.mark.parametrize(("stopped", "reason"), [(True, "stop"), (False, "length")])
def test_the_reason_says_whether_the_reply_ended_itself(stopped: bool, reason: str) -> None:
    assert shapes.whole(replies(Chat, "ls", stopped=stopped))["choices"][0]["finish_reason"] == reason


def test_a_stop_text_is_a_reason_too() -> None:
    (choice,) = shapes.whole(replies(Text, "ls$", stop=["$"]))["choices"]
    assert (choice["finish_reason"], choice["text"]) == ("stop", "ls")


def test_the_stop_token_is_counted_and_cached_tokens_are_part_of_the_prompt() -> None:
    used = shapes.usage(replies(Chat, "ls"))
    assert used == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert shapes.usage(replies(Chat, "ls", stopped=False))["completion_tokens"] == 2
    assert shapes.usage(replies(Chat, "ls", ended=False))["completion_tokens"] == 2


def test_a_stream_names_the_role_first_and_the_reason_last() -> None:
    running, ended = replies(Chat, "ls", ended=False), replies(Chat, "ls")
    chunks = [
        shapes.chunk(running, 0, "", None, first=True),
        shapes.chunk(running, 0, "l", token("l")),
        shapes.chunk(running, 0, "", token("s")),
        shapes.chunk(ended, 0, "s", None),
        shapes.chunk(ended, 0, "", None),
    ]
    assert [c["choices"][0]["delta"] for c in chunks] == [
        {"role": "assistant", "content": ""}, {"content": "l"}, {"content": ""}, {"content": "s"}, {},
    ]  # fmt: skip
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop", "stop"]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}


def test_the_last_chunk_has_the_usage_and_no_choice() -> None:
    last = shapes.last_chunk(replies(Text, "ls"))
    assert (last["object"], last["choices"], last["usage"]["total_tokens"]) == ("text_completion", [], 6)


def test_token_ids_are_told_where_they_are_asked_for() -> None:
    asked = replies(Text, "ls", return_token_ids=True)
    (choice,) = shapes.whole(asked)["choices"]
    assert (choice["token_ids"], choice["prompt_token_ids"]) == ([108, 115], [1, 2, 3])
    (piece,) = shapes.chunk(asked, 0, "l", token("l"))["choices"]
    assert (piece["token_ids"], "prompt_token_ids" in piece) == ([108], False)


def test_a_chat_has_log_probabilities_token_by_token() -> None:
    content = shapes.whole(replies(Chat, "ls", logprobs=True, top_logprobs=1))["choices"][0]["logprobs"]["content"]
    entry = {"token": "l", "logprob": -0.5, "bytes": [108]}
    assert content[0] == entry | {"top_logprobs": [entry]}
    assert shapes.whole(replies(Chat, "l", logprobs=True))["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_a_text_has_log_probabilities_in_columns() -> None:
    assert shapes.whole(replies(Text, "ls", logprobs=2))["choices"][0]["logprobs"] == {
        "tokens": ["l", "s"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"l": -0.5, "z": -3.0}, {"s": -0.5, "z": -3.0}],
        "text_offset": [0, 1],
    }
