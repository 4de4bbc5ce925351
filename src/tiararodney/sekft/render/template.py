"""Rendering: one place where messages become text, and the template that normalises by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from tiararodney.sekft.render.normalize import NORMALIZER_VERSION, ROLES, normalize_for_template
from tiararodney.sekft.render.session import Message, Messages, RefusalReason, SessionRefused
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ESCAPE = "\u200b"
"""What the policy ``escape`` puts behind the first character of a control token's text: a zero-width space."""

_MARK = "{#- sekft: normalises by itself, version "
_MARKED = re.compile(
    re.escape(_MARK) + r"(?P<version>\S+), control tokens (?P<policy>keep|escape), clock (?P<clock>\S+) -#\}"
)
_RUNNING = "running"
_CHECKED = 2
"""Prompts of a session that are rendered as served and held against the pieces. Early ones: what depends on how far a
session goes shows in each of them, and they are short."""
_CLOCK = re.compile(r"\bstrftime_now\s*\(")
_CLOCK_FORMAT = re.compile(r"""\bstrftime_now\s*\(\s*(?P<quote>['"])(?P<format>[^'"\\]*)(?P=quote)\s*\)""")

# Written with whitespace control on both sides of every tag, and with nothing but `for`, `if`, `set`, `namespace`,
# list concatenation, the filters `length` and `replace`, the test `string` and `raise_exception`: other engines of chat
# templates have these. Its last tag ends a line, so that the model's own template begins on a line of its own, as it
# did alone: chat templates are read with `trim_blocks`, which takes that newline away.
_CANONICAL = """\
{mark}{version}, control tokens {policy}, clock {clock} -#}}
{macro}{{%- set sekft = namespace(messages=[], role='', text='', head='', headed=false) -%}}
{{%- for message in messages -%}}
{{%- if message['role'] not in [{roles}] -%}}
{{{{- raise_exception('unknown role, expected one of {names}') -}}}}
{{%- endif -%}}
{{%- if message['content'] is not string -%}}
{{{{- raise_exception('the content of a message is not a string') -}}}}
{{%- endif -%}}
{{%- if message['role'] == sekft.role -%}}
{{%- set sekft.text = sekft.text + '\\n' + {content} -%}}
{{%- else -%}}
{flush}{{%- set sekft.role = message['role'] -%}}
{{%- set sekft.text = {content} -%}}
{{%- endif -%}}
{{%- endfor -%}}
{flush}{{%- if sekft.messages | length == 0 -%}}
{{{{- raise_exception('a session needs a user turn') -}}}}
{{%- endif -%}}
{{%- if sekft.messages[0]['role'] != 'user' -%}}
{{{{- raise_exception('the first turn, a leading system turn aside, is the user\\'s') -}}}}
{{%- endif -%}}
{{%- set messages = sekft.messages %}}
"""

# Puts the turn collected so far away: a leading system turn waits for the first user turn.
_FLUSH = """\
{%- if sekft.role == 'system' and sekft.messages | length == 0 and not sekft.headed -%}
{%- set sekft.headed = true -%}
{%- set sekft.head = sekft.text -%}
{%- elif sekft.role == 'user' and sekft.headed and sekft.messages | length == 0 -%}
{%- set sekft.messages = [{'role': 'user', 'content': sekft.head + '\\n\\n' + sekft.text}] -%}
{%- elif sekft.role != '' -%}
{%- set sekft.messages = sekft.messages + [{'role': sekft.role, 'content': sekft.text}] -%}
{%- endif -%}
"""


def canonical_chat_template(template: str, escape: Iterable[str] = (), clock: datetime | None = None) -> str:
    """Return a chat template that normalises by itself, for any server that applies it.

    For every list of messages, rendering with it equals rendering `normalize_for_template` of the list with the
    original. One that is canonical already is returned as it is.

    Args:
        template: Jinja source of the model's own template.
        escape: control tokens whose text is broken up in every message; none under the policy ``keep``.
        clock: the moment that a template which prints the date prints for good; without it the clock runs on.
    """
    if _MARKED.match(template):
        return template
    # Longest first: a token that holds another is broken up as itself.
    tokens = sorted(set(escape), key=lambda t: (-len(t), t))
    content = "message['content']" + "".join(f" | replace({_literal(t)}, {_literal(escaped(t))})" for t in tokens)
    head = _CANONICAL.format(
        mark=_MARK,
        version=NORMALIZER_VERSION,
        policy="escape" if tokens else "keep",
        clock=clock.isoformat(timespec="seconds") if clock and prints_the_date(template) else _RUNNING,
        macro=_stopped(template, clock) if clock and prints_the_date(template) else "",
        roles=", ".join(f"'{r}'" for r in ROLES),
        names=", ".join(ROLES),
        content=f"({content})",
        flush=_FLUSH,
    )
    return head + template


def template_policy(template: str) -> str | None:
    """Return the control-token policy of a canonical template, None for a model's own."""
    match = _MARKED.match(template)
    return match["policy"] if match else None


def template_clock(template: str) -> datetime | None:
    """Return the moment at which a canonical template's clock stands, None where it runs."""
    match = _MARKED.match(template)
    return None if match is None or match["clock"] == _RUNNING else datetime.fromisoformat(match["clock"])


def prints_the_date(template: str) -> bool:
    """Say whether a template prints the date, in formats that are written out in it."""
    return bool(_CLOCK.search(template)) and len(_CLOCK.findall(template)) == len(_CLOCK_FORMAT.findall(template))


def _stopped(template: str, clock: datetime) -> str:
    """Write a macro in the place of the function that tells the time."""
    formats = dict.fromkeys(m["format"] for m in _CLOCK_FORMAT.finditer(template))
    cases = "".join(f"{{%- if format == {_literal(f)} -%}}{clock.strftime(f)}{{%- endif -%}}" for f in formats)
    return f"{{%- macro strftime_now(format) -%}}{cases}{{%- endmacro -%}}\n"


def escaped(token: str) -> str:
    """Return a control token's text broken up, so that no tokenizer takes it for the token."""
    return token[:1] + ESCAPE + token[1:]


def _literal(text: str) -> str:
    """Write a text as a Jinja string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"


def render(tokenizer: Tokenizer, session: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """Apply the tokenizer's chat template to a normalised session.

    Raises:
        SessionRefused: (`RefusalReason.TEMPLATE_REFUSES`) the template raises on it.
    """
    try:
        return tokenizer.render_text(session, add_generation_prompt=add_generation_prompt)
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        # A template is a program of somebody else's: whatever it trips over, it has refused this session.
        raise SessionRefused(RefusalReason.TEMPLATE_REFUSES, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Served:
    """A session rendered as it is served, turn by turn.

    Args:
        tok: what renders it.
        session: the normalised session.
        prompts: for each assistant turn, the text that is served before it.
        whole: the session's text without a closing, empty where the template does more than append.
        places: where each message's text ends in `whole`.
    """

    tok: Tokenizer
    session: Sequence[Message]
    prompts: dict[int, str]
    whole: str = ""
    places: tuple[int, ...] = ()

    def closed(self, turn: int) -> str:
        """Return the text of the session up to and with a turn, as nobody is asked to go on."""
        return self.whole[: self.places[turn + 1]] if self.whole else self.rendered(turn)

    def rendered(self, turn: int) -> str:
        """Return the same with the closing that the template gives it."""
        return render(self.tok, self.session[: turn + 1], add_generation_prompt=False)


def render_served(tok: Tokenizer, session: Sequence[Message], turns: Sequence[int]) -> Served:
    """Render what is served before each of some turns.

    A tokenizer that can tell the pieces of a rendering (`render_pieces`), which it does only for a template that was
    seen to append, is asked once. The pieces put together are the prompts; the first two are rendered as they are
    served too, and have to be the same.

    Args:
        tok: the tokenizer.
        session: a normalised session.
        turns: indices of its assistant turns, ascending.

    Raises:
        SessionRefused: (`RefusalReason.TEMPLATE_REFUSES`) the template raises.
    """
    known = {i: render(tok, session[:i], add_generation_prompt=True) for i in turns[:_CHECKED]}
    render_pieces = getattr(tok, "render_pieces", None)
    pieces = render_pieces(session) if render_pieces is not None else None
    if pieces:
        opening, *texts, closing = pieces
        places = tuple(accumulate(map(len, texts), initial=len(opening)))
        whole = opening + "".join(texts)
        prompts = {i: whole[: places[i]] + closing for i in turns}
        if all(prompts[i] == text for i, text in known.items()):
            return Served(tok, session, prompts, whole, places)
    prompts = {i: known[i] if i in known else render(tok, session[:i], add_generation_prompt=True) for i in turns}
    return Served(tok, session, prompts)


def render_prompt(tokenizer: object, messages: Messages) -> list[int]:
    """Return the ids that a chat-completions endpoint puts before the model.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        messages: the session so far, as the endpoint receives it.

    Raises:
        SessionRefused: the messages are no chat, or the template raises on them.
    """
    tok = as_tokenizer(tokenizer)
    return tok.encode(render(tok, normalize_for_template(messages), add_generation_prompt=True))
