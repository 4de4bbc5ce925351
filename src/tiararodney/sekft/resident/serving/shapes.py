"""Replies in OpenAI's shapes, whole and as chunks of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiararodney.sekft.resident.serving.requests import Chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.model.sampling import Token
    from tiararodney.sekft.resident.serving.generate import Replies


def whole(replies: Replies) -> dict[str, Any]:
    """Return the answer to a request that does not stream."""
    choices = []
    for index, reply in enumerate(replies.replies):
        content = {"role": "assistant", "content": reply.decoder.text}
        choice = _choice(replies, index, {"message": content}, reply.decoder.text, reply.tokens)
        choices.append(choice | ({"prompt_token_ids": reply.prompt} if replies.asked.return_token_ids else {}))
    return _head(replies, "") | {"choices": choices, "usage": usage(replies)}


def chunk(replies: Replies, index: int, text: str, token: Token | None, *, first: bool = False) -> dict[str, Any]:
    """Return one chunk of a stream; the first one of a chat names the role, the last one has the finish reason."""
    ended = token is None and not first
    delta = {"role": "assistant"} if first else {}
    delta |= {} if ended and not text else {"content": text}
    choice = _choice(replies, index, {"delta": delta}, text, [] if token is None else [token])
    return _head(replies, ".chunk") | {"choices": [choice]}


def last_chunk(replies: Replies) -> dict[str, Any]:
    """Return the chunk with the usage, for streams that ask for it."""
    return _head(replies, ".chunk") | {"choices": [], "usage": usage(replies)}


def _head(replies: Replies, ending: str) -> dict[str, Any]:
    name = f"chat.completion{ending}" if isinstance(replies.asked, Chat) else "text_completion"
    return {"id": replies.id, "object": name, "created": replies.created, "model": replies.asked.model}


def _choice(replies: Replies, index: int, chat: dict[str, Any], text: str, tokens: Sequence[Token]) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "finish_reason": replies.replies[index].finish_reason}
    choice |= chat if isinstance(replies.asked, Chat) else {"text": text}
    choice["logprobs"] = _logprobs(replies, tokens)
    return choice | ({"token_ids": [t.id for t in tokens]} if replies.asked.return_token_ids else {})


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


def _logprobs(replies: Replies, tokens: Sequence[Token]) -> dict[str, Any] | None:
    """Return log-probabilities in the request's shape; None where none were asked for."""
    if (most := replies.asked.alternatives) is None:
        return None
    decode = replies.served.tokenizer.decode

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        text = decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}

    if isinstance(replies.asked, Chat):
        rows = [entry(t.id, t.logprob) | {"top_logprobs": [entry(*pair) for pair in t.top[:most]]} for t in tokens]
        return {"content": rows}
    texts = [decode([t.id]) for t in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [t.logprob for t in tokens],
        "top_logprobs": [{decode([i]): p for i, p in t.top[:most]} for t in tokens],
        "text_offset": [sum(map(len, texts[:i])) for i in range(len(texts))],
    }
