"""The canonical template: a model's own with the normalisation, written in Jinja, in front of it.

It is saved with every adapter, so that any server that applies it does what training did. `canonical.jinja` holds the
normalisation, with whitespace control on both sides of every tag, and with nothing but `for`, `if`, `set`, `namespace`,
list concatenation, the filters `length` and `replace`, the tests `string`, `defined`, `iterable` and `mapping`, and
`raise_exception`: other engines of chat templates have these. Content may come as a list of parts, for some servers
(vLLM) make one of every text where a template goes through parts anywhere. A leading system turn is held until the
first user turn. The last tag ends a line, so that the model's own template begins on a line of its own, as it did
alone: chat templates are read with `trim_blocks`, which takes that newline away.
"""

from __future__ import annotations

import re
from datetime import datetime
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from tiararodney.sekft.render.normalize import NORMALIZER_VERSION
from tiararodney.sekft.render.reply import opened_thought
from tiararodney.sekft.render.session import Message
from tiararodney.sekft.render.tokens import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tiararodney.sekft.render.tokens import Tokenizer

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates let thinking be turned off."""

_MARKED = re.compile(
    r"\{#- sekft: normalises by itself, version \S+, control tokens (?P<policy>keep|escape), clock (?P<clock>\S+)"
    r"(?:, settings (?P<settings>\S+))? -#\}"
)
_CLOCK = re.compile(r"\bstrftime_now\s*\(")
_CLOCK_FORMAT = re.compile(r"""\bstrftime_now\s*\(\s*(?P<quote>['"])(?P<format>[^'"\\]*)(?P=quote)\s*\)""")


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
    head = files(__package__).joinpath("canonical.jinja").read_text(encoding="utf-8")
    filled = Template(head).substitute(
        version=NORMALIZER_VERSION,
        policy="escape" if tokens else "keep",
        clock=clock or "running",
        macro=_fixed_date(template, datetime.fromisoformat(clock)) if clock else "",
        content=f"({content})",
        noted=", settings " + ",".join(f"{k}={v}" for k, v in values.items()) if values else "",
        settings="".join(f"{{%- set {k} = {v} -%}}\n" for k, v in values.items()),
    )
    return filled + template


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
