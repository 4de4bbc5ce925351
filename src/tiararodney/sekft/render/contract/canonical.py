"""The canonical template: a model's own with the normalisation, written in Jinja, in front of it.

It is saved with every adapter, so that any server that applies it does what training did.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from tiararodney.sekft.render.normalize import NORMALIZER_VERSION, ROLES
from tiararodney.sekft.render.reply import opened_thought
from tiararodney.sekft.render.session import Message
from tiararodney.sekft.render.tokens import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tiararodney.sekft.render.tokens import Tokenizer

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates let thinking be turned off."""

_MARK = "{#- sekft: normalises by itself, version "
_MARKED = re.compile(
    re.escape(_MARK) + r"(?P<version>\S+), control tokens (?P<policy>keep|escape), clock (?P<clock>\S+)"
    r"(?:, settings (?P<settings>\S+))? -#\}"
)
_CLOCK = re.compile(r"\bstrftime_now\s*\(")
_CLOCK_FORMAT = re.compile(r"""\bstrftime_now\s*\(\s*(?P<quote>['"])(?P<format>[^'"\\]*)(?P=quote)\s*\)""")

# Written with whitespace control on both sides of every tag, and with nothing but `for`, `if`, `set`, `namespace`,
# list concatenation, the filters `length` and `replace`, the tests `string`, `defined`, `iterable` and `mapping`, and
# `raise_exception`: other engines of chat templates have these. Content may come as a list of parts, for some servers
# (vLLM) make one of every text where a template goes through parts anywhere. The last tag ends a line, so that the
# model's own template begins on a line of its own, as it did alone: chat templates are read with `trim_blocks`, which
# takes that newline away.
_CANONICAL = """\
{mark}{version}, control tokens {policy}, clock {clock}{noted} -#}}
{settings}{macro}{{%- set sekft = namespace(messages=[], role='', text='', content='', head='', headed=false) -%}}
{{%- for message in messages -%}}
{{%- if message['role'] not in [{roles}] -%}}
{{{{- raise_exception('unknown role, expected one of {names}') -}}}}
{{%- endif -%}}
{{%- if message['content'] is string -%}}
{{%- set sekft.content = message['content'] -%}}
{{%- elif message['content'] is not defined or message['content'] is not iterable or message['content'] is mapping -%}}
{{{{- raise_exception('the content of a message is not a string') -}}}}
{{%- else -%}}
{{%- set sekft.content = '' -%}}
{{%- for part in message['content'] -%}}
{{%- if part is not mapping or part['type'] != 'text' or part['text'] is not string -%}}
{{{{- raise_exception('a part of the content of a message is not a text') -}}}}
{{%- endif -%}}
{{%- set sekft.content = sekft.content + part['text'] -%}}
{{%- endfor -%}}
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

# Appends the turn collected so far; a leading system turn is held until the first user turn.
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


def canonical_chat_template(
    template: str,
    escape: Iterable[str] = (),
    clock: str = "",
    settings: Mapping[str, bool] | None = None,
) -> str:
    """Return a chat template that normalises by itself, for any server that applies it.

    For every list of messages, rendering with it equals rendering `normalize_for_template` of the list with the
    original. One that is canonical already is returned as it is.

    Args:
        template: Jinja source of the model's own template.
        escape: control tokens whose text is broken up in every message; none under the policy ``keep``.
        clock: the moment (ISO 8601) whose date a template that prints one always prints; without it, the current date.
        settings: variables of the template that are fixed, whatever a request says (see `thinking_off`).
    """
    if marks_of(template):
        return template
    # Longest first: a token that holds another is broken up as itself.
    tokens = sorted(set(escape), key=lambda t: (-len(t), t))
    values = {name: "true" if value else "false" for name, value in (settings or {}).items()}
    content = "sekft.content" + "".join(f" | replace({_literal(t)}, {_literal(escaped(t))})" for t in tokens)
    clock = clock if prints_the_date(template) else ""
    head = _CANONICAL.format(
        mark=_MARK,
        version=NORMALIZER_VERSION,
        policy="escape" if tokens else "keep",
        clock=clock or "running",
        macro=_fixed_date(template, datetime.fromisoformat(clock)) if clock else "",
        roles=", ".join(f"'{r}'" for r in ROLES),
        names=", ".join(ROLES),
        content=f"({content})",
        noted=", settings " + ",".join(f"{k}={v}" for k, v in values.items()) if values else "",
        settings="".join(f"{{%- set {k} = {v} -%}}\n" for k, v in values.items()),
        flush=_FLUSH,
    )
    return head + template


class Marks(NamedTuple):
    """What a canonical template does besides normalising, as its first line says; see `folder.Fingerprint`."""

    control_tokens: str
    clock: str
    settings: dict[str, bool]


def marks_of(template: str) -> Marks | None:
    """Return what a canonical template does, None for a model's own."""
    match = _MARKED.match(template)
    if match is None:
        return None
    pairs = (pair.partition("=") for pair in (match["settings"] or "").split(",") if pair)
    clock = match["clock"].replace("running", "")
    return Marks(match["policy"], clock, {name: value == "true" for name, _, value in pairs})


def thinking_off(tok: Tokenizer) -> dict[str, bool]:
    """Return the settings under which a model's own template opens no thought; none where it opens none anyhow.

    A model behind a prompt that opens a thought (``<think>``) is asked to think aloud first. Where the template has a
    switch for it, the prompt then closes the thought it opens, and a command follows. Where it has none, the reply is
    trained after the open thought, since that is the prompt that is served; a server returns such a reply whole as
    long as no reasoning parser takes thoughts out of it.
    """
    own = tok.chat_template
    if marks_of(own) is None and _opens_a_thought(tok):
        for name in SWITCHES:
            off = tok.with_template(canonical_chat_template(own, settings={name: False}))
            if re.search(rf"\b{name}\b", own) and not _opens_a_thought(off):
                return {name: False}
    return {}


def _opens_a_thought(tok: Tokenizer) -> bool:
    try:
        return bool(opened_thought(tok.render_text([Message("user", "$ ")], add_generation_prompt=True)))
    except Exception:  # noqa: BLE001 - the template is a third party's program: it is refused where it is used
        return False


def prints_the_date(template: str) -> bool:
    """Tell whether a template prints the date, in formats that are written out in it."""
    return bool(_CLOCK.search(template)) and len(_CLOCK.findall(template)) == len(_CLOCK_FORMAT.findall(template))


def _fixed_date(template: str, clock: datetime) -> str:
    """Return a macro that takes the place of `strftime_now` and knows the formats that the template asks for."""
    formats = dict.fromkeys(m["format"] for m in _CLOCK_FORMAT.finditer(template))
    cases = "".join(f"{{%- if format == {_literal(f)} -%}}{clock.strftime(f)}{{%- endif -%}}" for f in formats)
    return f"{{%- macro strftime_now(format) -%}}{cases}{{%- endmacro -%}}\n"


def _literal(text: str) -> str:
    """Write a text as a Jinja string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"
