"""The canonical template: a model's own with the normalisation, written in Jinja, in front of it.

It is saved with every adapter, so that any server that applies it does what training did.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from tiararodney.sekft.render.control import escaped
from tiararodney.sekft.render.normalize import NORMALIZER_VERSION, ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MARK = "{#- sekft: normalises by itself, version "
_MARKED = re.compile(
    re.escape(_MARK) + r"(?P<version>\S+), control tokens (?P<policy>keep|escape), clock (?P<clock>\S+)"
    r"(?:, settings (?P<settings>\S+))? -#\}"
)
_RUNNING = "running"
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
    clock: datetime | None = None,
    settings: Mapping[str, bool] | None = None,
) -> str:
    """Return a chat template that normalises by itself, for any server that applies it.

    For every list of messages, rendering with it equals rendering `normalize_for_template` of the list with the
    original. One that is canonical already is returned as it is.

    Args:
        template: Jinja source of the model's own template.
        escape: control tokens whose text is broken up in every message; none under the policy ``keep``.
        clock: the moment whose date a template that prints one always prints; without it, the current date.
        settings: variables of the template that are fixed, whatever a request says (see `thinking`).
    """
    if _MARKED.match(template):
        return template
    # Longest first: a token that holds another is broken up as itself.
    tokens = sorted(set(escape), key=lambda t: (-len(t), t))
    content = "sekft.content" + "".join(f" | replace({_literal(t)}, {_literal(escaped(t))})" for t in tokens)
    head = _CANONICAL.format(
        mark=_MARK,
        version=NORMALIZER_VERSION,
        policy="escape" if tokens else "keep",
        clock=clock.isoformat(timespec="seconds") if clock and prints_the_date(template) else _RUNNING,
        macro=_fixed_date(template, clock) if clock and prints_the_date(template) else "",
        roles=", ".join(f"'{r}'" for r in ROLES),
        names=", ".join(ROLES),
        content=f"({content})",
        noted=", settings " + ",".join(f"{k}={_spelled(v)}" for k, v in settings.items()) if settings else "",
        settings="".join(f"{{%- set {k} = {_spelled(v)} -%}}\n" for k, v in (settings or {}).items()),
        flush=_FLUSH,
    )
    return head + template


def template_policy(template: str) -> str | None:
    """Return the control-token policy of a canonical template, None for a model's own."""
    match = _MARKED.match(template)
    return match["policy"] if match else None


def template_clock(template: str) -> datetime | None:
    """Return the moment that a canonical template's date is fixed to, None where it prints the current one."""
    match = _MARKED.match(template)
    return None if match is None or match["clock"] == _RUNNING else datetime.fromisoformat(match["clock"])


def template_settings(template: str) -> dict[str, bool]:
    """Return the variables that a canonical template fixes."""
    match = _MARKED.match(template)
    pairs = (match["settings"] or "").split(",") if match else []
    return {name: value == "true" for name, _, value in (pair.partition("=") for pair in pairs if pair)}


def prints_the_date(template: str) -> bool:
    """Tell whether a template prints the date, in formats that are written out in it."""
    return bool(_CLOCK.search(template)) and len(_CLOCK.findall(template)) == len(_CLOCK_FORMAT.findall(template))


def _fixed_date(template: str, clock: datetime) -> str:
    """Return a macro that takes the place of `strftime_now` and knows the formats that the template asks for."""
    formats = dict.fromkeys(m["format"] for m in _CLOCK_FORMAT.finditer(template))
    cases = "".join(f"{{%- if format == {_literal(f)} -%}}{clock.strftime(f)}{{%- endif -%}}" for f in formats)
    return f"{{%- macro strftime_now(format) -%}}{cases}{{%- endmacro -%}}\n"


def _spelled(value: bool) -> str:
    return "true" if value else "false"


def _literal(text: str) -> str:
    """Write a text as a Jinja string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"
