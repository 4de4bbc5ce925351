"""Serve-exact examples: which tokens are trained, proved for every turn.

The property, for every trained assistant turn i: the ids before its first trained id are those that `render_prompt`
gives for the messages before it, and the trained ids decode to the reply, as the template shows it, and the
end-of-turn token.

Every prompt is rendered. The prompt of the last turn and its reply are encoded once, with offsets. An earlier turn is
trained in the same sequence where its prompt is a prefix of that text and `encode.prefix_length` proves the same of the
ids. A turn that fails either test gets an example of its own, in which the open turns before it are tried again. Taking
the last open turn each time gives the fewest examples: a longer sequence that serves a turn and an earlier one begins
with the turn's own sequence, so that one serves the earlier turn too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.sekft.render.encode import Encoded, continuation, crossing_text, encode, reply_span
from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.reply import Reply, last_reply, shown_reply
from tiararodney.sekft.render.session import IGNORED, Example, Message, Messages, RefusalReason, SessionRefused, Span
from tiararodney.sekft.render.template import render
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROBE = "$ "


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
    rendered = _Rendered(tok, session, prompts)
    examples: list[Example] = []
    known: Encoded | None = None
    while open_turns:
        example, encoded = _example(rendered, open_turns, known)
        known = known or encoded
        examples.append(example)
        open_turns = [t for t in open_turns if t not in example.turns]
    return examples[::-1]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A session and its prompts as text.

    Args:
        tok: what rendered them.
        session: the normalised session.
        prompts: for each assistant turn, the text that is served before it.
    """

    tok: Tokenizer
    session: Sequence[Message]
    prompts: Mapping[int, str]


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


def _example(rendered: _Rendered, turns: Sequence[int], known: Encoded | None) -> tuple[Example, Encoded]:
    """Build the example that ends in the last of some turns and trains every other one that it serves exactly.

    Args:
        rendered: the session.
        turns: indices of assistant turns, ascending.
        known: an example's text; what another begins with is not encoded again.

    Returns:
        The example, and its text as it was encoded.
    """
    last, tok = turns[-1], rendered.tok
    prompt = rendered.prompts[last]
    try:
        reply = _reply(rendered, last)
        text = prompt + reply.text + reply.end
        encoded = encode(tok, text, known)
        ids = encoded.ids
        span = reply_span(tok, encoded, len(prompt), len(text), reply.end)
        crossing = ""
        if span is None:
            crossing = crossing_text(encoded, len(prompt))
            # A merge crosses the border, or the reply holds a control token: the prompt is served as it is alone.
            encoded = encode(tok, prompt, known or encoded)
            ids = encoded.ids + continuation(tok, encoded.ids, reply)
            span = len(encoded.ids), len(ids)
    except SessionRefused as refused:
        raise SessionRefused(refused.reason, refused.detail, last) from refused
    spans, masked = {last: span}, []
    for turn in (t for t in rendered.prompts if t < last):
        if turn in turns and (found := _served_in(rendered, encoded, turn, reply.end)):
            spans[turn] = found
        elif not rendered.session[turn].train and (found := _served_in(rendered, encoded, turn, reply.end)):
            masked.append(found)
    labels = [IGNORED] * len(ids)
    for start, stop in spans.values():
        labels[start:stop] = ids[start:stop]
    trained = sorted(spans)
    final = last == len(rendered.session) - 1
    ranges = tuple(spans[t] for t in trained)
    return Example(ids, labels, tuple(trained), ranges, crossing, final, tuple(masked)), encoded


def _reply(rendered: _Rendered, turn: int) -> Reply:
    """Find how a turn's reply is trained; its end is that of the turn, or what begins the environment's next."""
    tok, upto = rendered.tok, rendered.session[: turn + 1]
    prompt, content = rendered.prompts[turn], rendered.session[turn].content
    try:
        return last_reply(tok, render(tok, upto, add_generation_prompt=False), prompt, content)
    except SessionRefused as refused:
        if refused.reason is not RefusalReason.NO_END_OF_TURN:
            raise
    # Some models (GLM) have no token that ends a turn: they stop at the one that begins the next.
    followed = [*upto, Message("user", _PROBE)]
    return last_reply(tok, render(tok, followed, add_generation_prompt=False), prompt, content)


def _served_in(rendered: _Rendered, encoded: Encoded, turn: int, end: str) -> Span | None:
    """Return where an encoded session shows an earlier turn exactly as it is served, None where it does not."""
    prompt = rendered.prompts[turn]
    if not encoded.text.startswith(prompt):
        return None
    over = shown_reply(encoded.text, len(prompt), rendered.session[turn].content, end)
    return None if over is None else reply_span(rendered.tok, encoded, len(prompt), over, end)
