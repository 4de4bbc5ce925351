"""Chat templates compiled: the sandbox they run in, with a short way to what they ask for most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tiararodney.sekft.render.appending import Marked, Pieces, marked, pieces
from tiararodney.sekft.render.canonical import parted
from tiararodney.sekft.render.opening import held

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment, Template

    from tiararodney.sekft.render.session import Message

_MARK = "\ufdd0sekft\ufdd1"  # non-characters, which no text has a use for

_HAND = "sekft_hand"
_HAND_OVER = "{{ " + _HAND + "(sekft.messages) }}"

_OF_DICTS = frozenset(dir(dict))
_OF_LOOPS = frozenset(
    {"first", "last", "index", "index0", "revindex", "revindex0", "length", "previtem", "nextitem", "depth", "depth0"}
)
_PLAIN = (str, int, bool)
_OF_TEXT = frozenset({"startswith", "endswith", "split", "strip", "lstrip", "rstrip"})


class QuickSandbox(ImmutableSandboxedEnvironment):
    """The same sandbox: `message.role`, `loop.first`, `ns.flag`, `text.strip` are looked up at once, all else as ever.

    Each takes jinja2's own sandbox a failed look-up or a dozen checks, more than the rest of most templates.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute, or an item of that name."""
        if type(obj) is dict and attribute not in _OF_DICTS:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if type(obj) is LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        if type(obj) is str and attribute in _OF_TEXT:
            return getattr(obj, attribute)
        if isinstance(obj, Namespace) and not attribute.startswith("_"):
            value = held(obj).get(attribute)
            if type(value) in _PLAIN:
                return value
        return super().getattr(obj, attribute)


def quick(environment: Environment) -> QuickSandbox:
    """Return an environment with another one's extensions, filters, tests and globals.

    Args:
        environment: the one of transformers' `apply_chat_template`.
    """
    out = QuickSandbox(
        trim_blocks=environment.trim_blocks,
        lstrip_blocks=environment.lstrip_blocks,
        extensions=[type(extension) for extension in environment.extensions.values()],
    )
    out.filters.update(environment.filters)
    out.tests.update(environment.tests)
    out.globals.update(environment.globals)
    return out


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, compiled once.

    Args:
        source: Jinja source.
        environment: what it runs in.
        named: the special tokens that it refers to.
    """

    source: str
    environment: Environment
    named: Mapping[str, str]

    @cached_property
    def _compiled(self) -> Template:
        return self.environment.from_string(self.source)

    @cached_property
    def _marked(self) -> Marked | None:
        """The template, printing `_MARK` around each message's piece; None where its shape does not allow it."""
        _, own = self._parted
        try:
            return marked(self.environment, own, _MARK)
        except TemplateError:
            return None

    @cached_property
    def _parted(self) -> tuple[Template | None, str]:
        """What normalises messages first, where the template does, and what renders them."""
        parts = parted(self.source)
        if parts is None:
            return None, self.source
        return self.environment.from_string(parts[0] + _HAND_OVER), parts[1]

    def _normalised(self, messages: Sequence[Message]) -> list[dict[str, str]] | None:
        """Return the messages as the template has them once it has normalised them; None where some become one."""
        plain = _plain(messages)
        normalise, _ = self._parted
        if normalise is None:
            return plain
        handed: list[list[dict[str, str]]] = []

        def hand(taken: list[dict[str, str]]) -> str:
            handed.append(taken)
            return ""

        normalise.render(**{**self.named, "messages": plain, _HAND: hand})
        # Each is made of one message, so the first of them are what becomes of the first messages.
        return handed[0] if [m["role"] for m in handed[0]] == [m["role"] for m in plain] else None

    def text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Render a session.

        Raises:
            Exception: whatever the template raises.
        """
        context = {"messages": _plain(messages), "tools": None, "documents": None}
        return self._compiled.render(**context, add_generation_prompt=add_generation_prompt, **self.named)

    def pieces(self, messages: Sequence[Message]) -> Pieces | None:
        """Render a session in pieces, noting on what each depends; None where the template does not allow it."""
        if self._marked is None or any(_MARK in m.content for m in messages):
            return None
        try:
            normalised = self._normalised(messages)
            return None if normalised is None else pieces(self._marked, normalised, self.named)
        except Exception:  # noqa: BLE001 - the template is a program of somebody else's
            # Whatever it trips over, the caller's own rendering of the session meets it too, and reports it; or it is
            # something that cannot be watched.
            return None


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]
