"""How a chat template shows a reply: the text that is trained, the token that ends the turn, thoughts before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.sekft.render.session import RefusalReason, SessionRefused
from tiararodney.sekft.render.tokens import control_pattern, escaped

if TYPE_CHECKING:
    from tiararodney.sekft.render.tokens import Tokenizer

_SPACE = re.compile(r"\s*")
_SHOWN = 30
# The marks between which reasoning models think, as chat templates write them.
_NAMES = r"(?:think|thinking|thought|reasoning)"
_OPENER = rf"(?:<(?:\w+:)?{_NAMES}>|\[THINK\]|<\|START_THINKING\|>|◁think▷|<\|channel>thought)"  # the last is Gemma 4's
_CLOSER = rf"(?:</(?:\w+:)?{_NAMES}>|\[/THINK\]|<\|END_THINKING\|>|◁/think▷|<channel\|>)"
_OPEN = re.compile(rf"{_OPENER}\s*\Z")
# A closing mark alone counts: DeepSeek's prompts close a thought that nothing opened.
_EMPTY = re.compile(rf"(?:{_OPENER}\s*)?{_CLOSER}\s*\Z")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it is trained: with the white space that the template puts around it, and the token that ends it."""

    text: str
    end: str


def last_reply(tok: Tokenizer, closed: str, prompt: str, content: str) -> Reply:
    """Find the last turn's reply, given as `content`, in a session rendered up to it without a generation prompt.

    White space between prompt and reply is part of the reply: the model samples it. Other text there (a header
    that the served prompt lacks, an empty thought) is not: no endpoint would take it for the command, so the reply is
    trained directly after the prompt that is served.

    Raises:
        SessionRefused: the reply is not shown as given, no token ends it, or the prompt opens other text.
    """
    continues = closed.startswith(prompt)
    start = len(prompt) if continues else 0
    shown = {form: form for form in (content, content.strip(), content.lstrip(), content.rstrip())}  # or trimmed
    # Under the policy `escape` the template breaks control tokens up; the operator still says them as they are.
    shown |= {control_pattern(tok).sub(lambda m: escaped(m.group()), form): meant for form, meant in shown.items()}
    for form, meant in shown.items():
        found = _ended(tok, closed, start, form)
        if found is None:
            continue
        position, space, end = found
        if continues and not closed[start:position].strip():
            return Reply(closed[start:position] + meant + space, end)
        if not continues and not _same_header(tok, prompt, closed[:position]):
            detail = f"served {prompt[-_SHOWN:]!r}, recorded {closed[max(0, position - _SHOWN) : position]!r}"
            raise SessionRefused(RefusalReason.PROMPT_DIVERGES, detail)
        return Reply(meant, end)
    if any(form in closed[start:] for form in shown):
        raise SessionRefused(RefusalReason.NO_END_OF_TURN, f"the turn is rendered as {closed[start:][-_SHOWN:]!r}")
    raise SessionRefused(RefusalReason.REPLY_REWRITTEN, f"{content[:_SHOWN]!r} is not in the rendered turn")


def shown_reply(text: str, start: int, content: str, end: str) -> int | None:
    """Return where a reply and the token that ends its turn are over in a rendered session, None if not at `start`."""
    reply = content.strip()
    begin = _after_space(text, start)
    over = _after_space(text, begin + len(reply))
    return over + len(end) if text.startswith(reply, begin) and text.startswith(end, over) else None


def _after_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _ended(tok: Tokenizer, closed: str, start: int, form: str) -> tuple[int, str, str] | None:
    """Find the rightmost reply before a control token: its place, the white space between, and the token's text."""
    limit = len(closed)
    # From the right: the reply's text may also stand in the history, or be part of the template's own.
    while (position := closed.rfind(form, start, limit)) >= 0:
        after = position + len(form)
        over = _after_space(closed, after)
        if token := control_pattern(tok).match(closed, over):
            return position, closed[after:over], token.group()
        limit = after - 1
    return None


def _same_header(tok: Tokenizer, prompt: str, before: str) -> bool:
    """Tell whether a recorded reply follows the same header as a served one, history and thoughts aside."""
    prompt, before = before_thought(prompt), before_thought(before)
    tokens = [m.start() for m in control_pattern(tok).finditer(prompt)]
    opening = prompt[tokens[-1] :] if tokens else prompt[prompt.rstrip().rfind("\n") + 1 :]
    return before.endswith(opening) or before.rstrip().endswith(opening.rstrip())


def opened_thought(prompt: str) -> str:
    """Return the text with which a prompt opens a thought at its end, empty where it opens none."""
    match = _OPEN.search(prompt)
    return match.group() if match else ""


def before_thought(text: str) -> str:
    """Return a text without the thought that it opens, or the empty one that stands, at its end."""
    return _OPEN.sub("", _EMPTY.sub("", text))
