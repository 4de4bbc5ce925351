"""Serve-exact examples: which tokens are trained, proved for every turn.

The property, for every trained assistant turn i: the ids before its first trained id are those that `render_prompt`
gives for the messages before it, and the trained ids decode to the reply, as the template shows it, and the
end-of-turn token.

The prompt of the last turn and its reply are encoded once, with offsets. Every earlier prompt that is a prefix of
this text is proved by `encode.prefix_length`. A turn whose prompt is no prefix, by text or by ids, is not trained
there; it gets an example of its own, in which the open turns before it are tried again. Taking the last open turn each
time gives the fewest examples: a longer sequence that serves a turn and an earlier one begins as the turn's own
sequence does, so that one serves the earlier turn too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.sekft.render.encode import Encoded, continuation, crossing_text, encode, reply_span
from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.reply import Reply, last_reply, shown_reply
from tiararodney.sekft.render.session import IGNORED, Example, Message, Messages, RefusalReason, SessionRefused
from tiararodney.sekft.render.template import Served, render, render_served
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

Span = tuple[int, int]
_PROBE = "$ "


def build_masked_examples(tokenizer: object, messages: Messages) -> list[Example]:
    """Turn a session into sequences and labels.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        messages: a session, ending in an assistant turn.

    Returns:
        The fewest examples that train every assistant turn exactly as it is served, the shortest session first.

    Raises:
        SessionRefused: there is no way to keep the property, for the reason it carries.
    """
    tok = as_tokenizer(tokenizer)
    session = normalize_for_template(messages)
    open_turns = [i for i, m in enumerate(session) if m.role == "assistant"]
    if not open_turns:
        raise SessionRefused(RefusalReason.NO_REPLY, "no assistant turn")
    if open_turns[-1] != len(session) - 1:
        last = len(session) - 1
        raise SessionRefused(RefusalReason.ENDS_IN_USER_TURN, f"the last turn is the {session[last].role}'s", last)
    served = render_served(tok, session, open_turns)
    examples: list[Example] = []
    known: Encoded | None = None
    while open_turns:
        example, encoded = _example(served, open_turns, known)
        known = known or encoded
        examples.append(example)
        open_turns = [t for t in open_turns if t not in example.turns]
    return examples[::-1]


def build_masked_example(tokenizer: object, messages: Messages) -> Example:
    """Turn a session into one sequence, where one serves every turn.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        messages: a session, ending in an assistant turn.

    Raises:
        SessionRefused: as `build_masked_examples`; (`RefusalReason.CONTEXT_DIFFERS`) where it takes several sequences.
    """
    examples = build_masked_examples(tokenizer, messages)
    if len(examples) > 1:
        detail = f"it takes {len(examples)} sequences, which build_masked_examples returns"
        raise SessionRefused(RefusalReason.CONTEXT_DIFFERS, detail, examples[0].turns[-1])
    return examples[0]


def _example(served: Served, turns: Sequence[int], known: Encoded | None) -> tuple[Example, Encoded]:
    """Build the example that ends in the last of some turns and trains every other one that it serves exactly.

    Args:
        served: the session.
        turns: indices of assistant turns, ascending.
        known: an example's text; what another begins with is not encoded again.

    Returns:
        The example, and its text as it was encoded.
    """
    last = turns[-1]
    tok, prompt = served.tok, served.prompts[last]
    try:
        reply = _reply(served, last)
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
    spans = {last: span}
    for turn in turns[:-1]:
        found = _served_in(tok, encoded, served.prompts[turn], served.session[turn].content, reply.end)
        if found:
            spans[turn] = found
    labels = [IGNORED] * len(ids)
    for start, stop in spans.values():
        labels[start:stop] = ids[start:stop]
    trained = sorted(spans)
    final = last == len(served.session) - 1
    return Example(ids, labels, tuple(trained), tuple(spans[t] for t in trained), crossing, final), encoded


def _reply(served: Served, turn: int) -> Reply:
    """Find how a turn's reply is trained; its end is that of the turn, or what begins the environment's next."""
    tok, prompt, content = served.tok, served.prompts[turn], served.session[turn].content
    try:
        return last_reply(tok, served.closed(turn), prompt, content)
    except SessionRefused as refused:
        if refused.reason is not RefusalReason.NO_END_OF_TURN:
            raise
    try:
        # Where the template only appends, its closing has not been looked at yet.
        return last_reply(tok, served.rendered(turn), prompt, content)
    except SessionRefused as refused:
        if refused.reason is not RefusalReason.NO_END_OF_TURN:
            raise
    # Some models (GLM) have no token that ends a turn: they stop at the one that begins the next.
    followed = [*served.session[: turn + 1], Message("user", _PROBE)]
    return last_reply(tok, render(tok, followed, add_generation_prompt=False), prompt, content)


def _served_in(tok: Tokenizer, encoded: Encoded, prompt: str, content: str, end: str) -> Span | None:
    """Return where an encoded session trains an earlier turn exactly as it is served, None where it does not."""
    if not encoded.text.startswith(prompt):
        return None
    over = shown_reply(encoded.text, len(prompt), content, end)
    return None if over is None else reply_span(tok, encoded, len(prompt), over, end)
