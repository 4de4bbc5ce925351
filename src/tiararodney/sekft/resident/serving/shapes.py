"""Replies in OpenAI's shapes, whole and as chunks of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiararodney.sekft.resident.serving.requests import CHAT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.model.sampling import Token
    from tiararodney.sekft.resident.serving.generate import Replies, Reply


def whole(replies: Replies) -> dict[str, Any]:
    """Return the answer to a request that does not stream."""
    chat = replies.asked.kind == CHAT
    choices = []
    for index, reply in enumerate(replies.replies):
        choice: dict[str, Any] = {"index": index, "finish_reason": reply.finish_reason}
        if chat:
            choice["message"] = {"role": "assistant", "content": reply.decoder.text}
        else:
            choice["text"] = reply.decoder.text
        choice["logprobs"] = logprobs(replies, reply.tokens)
        if replies.asked.token_ids:
            choice["token_ids"] = [t.id for t in reply.tokens]
            choice["prompt_token_ids"] = reply.prompt
        choices.append(choice)
    return _head(replies, "chat.completion" if chat else "text_completion") | {
        "choices": choices,
        "usage": usage(replies),
    }


def chunk(replies: Replies, index: int, text: str, token: Token | None, reply: Reply) -> dict[str, Any]:
    """Return one chunk of a stream; the last one of a reply carries its finish reason."""
    choice: dict[str, Any] = {"index": index, "finish_reason": None if reply.done is None else reply.finish_reason}
    if replies.asked.kind == CHAT:
        choice["delta"] = {"content": text} if text or reply.done is None else {}
    else:
        choice["text"] = text
    choice["logprobs"] = logprobs(replies, [] if token is None else [token])
    if replies.asked.token_ids:
        choice["token_ids"] = [] if token is None else [token.id]
    return _chunk(replies, [choice])


def first_chunk(replies: Replies, index: int) -> dict[str, Any]:
    """Return the chunk with which the stream of a chat begins."""
    delta = {"role": "assistant", "content": ""}
    return _chunk(replies, [{"index": index, "delta": delta, "finish_reason": None, "logprobs": None}])


def last_chunk(replies: Replies) -> dict[str, Any]:
    """Return the chunk with the usage, for streams that ask for it."""
    return _chunk(replies, []) | {"usage": usage(replies)}


def _chunk(replies: Replies, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name = "chat.completion.chunk" if replies.asked.kind == CHAT else "text_completion"
    return _head(replies, name) | {"choices": list(choices)}


def _head(replies: Replies, name: str) -> dict[str, Any]:
    return {"id": replies.id, "object": name, "created": replies.created, "model": replies.asked.model}


def usage(replies: Replies) -> dict[str, Any]:
    """Count tokens; those whose keys and values were cached are part of the prompt's."""
    prompt = sum(len(r.prompt) for r in replies.replies)
    reply = sum(
        len(r.tokens) + (r.done is not None and r.done.stopped and not r.decoder.stopped) for r in replies.replies
    )
    cached = sum(r.done.cached_tokens for r in replies.replies if r.done is not None)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply,
        "total_tokens": prompt + reply,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def logprobs(replies: Replies, tokens: Sequence[Token]) -> dict[str, Any] | None:
    """Return log-probabilities in the request's shape; None where none were asked for."""
    if replies.asked.logprobs is None:
        return None
    decode = replies.served.tokenizer.decode
    if replies.asked.kind == CHAT:
        return {
            "content": [
                _entry(decode([t.id]), t.logprob)
                | {"top_logprobs": [_entry(decode([i]), p) for i, p in t.top[: replies.asked.logprobs]]}
                for t in tokens
            ]
        }
    texts = [decode([t.id]) for t in tokens]
    offsets = [sum(map(len, texts[:i])) for i in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [t.logprob for t in tokens],
        "top_logprobs": [{decode([i]): p for i, p in t.top[: replies.asked.logprobs]} for t in tokens],
        "text_offset": offsets,
    }


def _entry(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
