"""Serve-exact examples: which tokens are trained, proved for every turn.

The property, for every trained assistant turn i: the ids before its first trained id are those that `render_prompt`
gives for the messages before it, and the trained ids decode to the reply, as the template shows it, and the
end-of-turn token.

Every prompt is rendered. The prompt of the last turn and its reply are encoded once. An earlier turn is
trained in the same sequence where its prompt is a prefix of that text and `encode.prefix_length` proves the same of the
ids. A turn that fails either test gets an example of its own, in which the open turns before it are tried again. Taking
the last open turn each time gives the fewest examples: a longer sequence that serves a turn and an earlier one begins
with the turn's own sequence, so that one serves the earlier turn too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.sekft.render.encode import continuation, crossing_text, encode, reply_span
from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.reply import Reply, last_reply, shown_reply
from tiararodney.sekft.render.session import IGNORED, Example, Message, Messages, RefusalReason, SessionRefused, Span
from tiararodney.sekft.render.template import render
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def build_masked_examples(tokenizer: object, messages: Messages) -> list[Example]:
    """Turn a session into sequences and labels.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        messages: a session, ending in an assistant turn.

    Returns:
        The fewest examples that train every assistant turn exactly as it is served (those with ``train: false`` or
        ``weight: 0`` aside), the shortest first.

    Raises:
        SessionRefused: there is no way to keep the property, for the reason it carries.
    """
    tok = as_tokenizer(tokenizer)
    session = normalize_for_template(messages)
    replies = [i for i, m in enumerate(session) if m.role == "assistant"]
    open_turns = [i for i in replies if session[i].train]
    _check(session, replies, open_turns)
    prompts = {i: render(tok, session[:i], add_generation_prompt=True) for i in replies if i <= open_turns[-1]}
    examples: list[Example] = []
    while open_turns:
        example = _example(tok, session, prompts, open_turns)
        examples.append(example)
        open_turns = [t for t in open_turns if t not in example.turns]
    return examples[::-1]


def _check(session: Sequence[Message], replies: Sequence[int], trained: Sequence[int]) -> None:
    """Refuse a session with nothing to learn, one that the operator never ended, and replies of no text."""
    if not replies:
        raise SessionRefused(RefusalReason.NO_REPLY, "no assistant turn")
    last = len(session) - 1
    if replies[-1] != last:
        raise SessionRefused(RefusalReason.ENDS_IN_USER_TURN, f"the last turn is the {session[last].role}'s", last)
    if not trained:
        raise SessionRefused(RefusalReason.NO_REPLY, "every assistant turn says train: false or weight: 0")
    for turn in trained:
        if not session[turn].content.strip():
            found = f"found {session[turn].content!r}, expected a command; train: false makes it context"
            raise SessionRefused(RefusalReason.EMPTY_REPLY, found, turn)


def _example(tok: Tokenizer, session: Sequence[Message], prompts: Mapping[int, str], turns: Sequence[int]) -> Example:
    """Build the example that ends in the last of some turns and trains every other one that it serves exactly.

    `prompts` has, for each assistant turn, the text that is served before it; `turns` those still to be trained.
    """
    last = turns[-1]
    try:
        reply = _reply(tok, session[: last + 1], prompts[last])
        encoded = encode(tok, prompts[last] + reply.text + reply.end)
        ids, crossing = encoded.ids, ""
        span = reply_span(tok, encoded, len(prompts[last]), len(encoded.text), reply.end)
        if span is None:
            # A merge crosses the border, or the reply holds a control token: the prompt is served as it is alone.
            encoded = encode(tok, prompts[last])
            crossing = crossing_text(tok, encoded.ids, ids)
            ids = encoded.ids + continuation(tok, encoded.ids, reply)
            span = len(encoded.ids), len(ids)
    except SessionRefused as refused:
        raise SessionRefused(refused.reason, refused.detail, last) from refused
    trained: dict[int, Span] = {}
    masked: list[Span] = []
    for turn in (t for t in prompts if t < last and (t in turns or not session[t].train)):
        if encoded.text.startswith(prompts[turn]):
            begin = len(prompts[turn])
            over = shown_reply(encoded.text, begin, session[turn].content, reply.end)
            found = None if over is None else reply_span(tok, encoded, begin, over, reply.end)
            if found and turn in turns:
                trained[turn] = found
            elif found:
                masked.append(found)
    trained[last] = span
    labels = [IGNORED] * len(ids)
    for start, stop in trained.values():
        labels[start:stop] = ids[start:stop]
    final = last == len(session) - 1
    return Example(ids, labels, tuple(trained), tuple(trained.values()), crossing, final, tuple(masked))


def _reply(tok: Tokenizer, upto: Sequence[Message], prompt: str) -> Reply:
    """Find how a session's last reply is trained; its end is the turn's, or what begins the environment's next."""
    content = upto[-1].content
    try:
        return last_reply(tok, render(tok, upto, add_generation_prompt=False), prompt, content)
    except SessionRefused as refused:
        if refused.reason is not RefusalReason.NO_END_OF_TURN:
            raise
    # Some models (GLM) have no token that ends a turn: they stop at the one that begins the next.
    followed = [*upto, Message("user", "$ ")]
    return last_reply(tok, render(tok, followed, add_generation_prompt=False), prompt, content)
