"""The sandbox that chat templates run in, with a short way to what they ask for most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from jinja2 import Environment

_OF_DICTS = frozenset(dir(dict))
_OF_LOOPS = frozenset(
    {"first", "last", "index", "index0", "revindex", "revindex0", "length", "previtem", "nextitem", "depth", "depth0"}
)


class QuickSandbox(ImmutableSandboxedEnvironment):
    """The same sandbox: `message.role` and `loop.first` are looked up at once, anything else as ever.

    Each takes jinja2's own sandbox a failed look-up or a dozen checks, more than the rest of most templates.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute, or an item of that name."""
        if type(obj) is dict and attribute not in _OF_DICTS:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if type(obj) is LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
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
