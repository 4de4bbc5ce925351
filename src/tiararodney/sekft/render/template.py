"""Messages to text: the model's chat template, compiled once and applied in one place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.session import Message, Messages, RefusalReason, SessionRefused
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment, Template

_DICT_METHODS = frozenset(dir(dict))
_LOOP_FIELDS = frozenset(
    {"first", "last", "index", "index0", "revindex", "revindex0", "length", "previtem", "nextitem", "depth", "depth0"}
)
_TEXT_METHODS = frozenset({"startswith", "endswith", "split", "strip", "lstrip", "rstrip"})


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
        # A template is a third party's program: whatever it trips over, it has refused this session.
        raise SessionRefused(RefusalReason.TEMPLATE_REFUSES, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, compiled once.

    Args:
        source: Jinja source.
        environment: the one that transformers' `apply_chat_template` compiles templates in.
        special_tokens: the named special tokens that the template refers to (``bos_token`` ...), by name.
    """

    source: str
    environment: Environment
    special_tokens: Mapping[str, str]

    @cached_property
    def _compiled(self) -> Template:
        return _faster(self.environment).from_string(self.source)

    def text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Render a session.

        Raises:
            Exception: whatever the template raises.
        """
        # Plain dictionaries, as an endpoint parses them out of a request: templates ask `message is mapping`.
        plain = [{"role": m.role, "content": m.content} for m in messages]
        context = {"messages": plain, "tools": None, "documents": None, **self.special_tokens}
        return self._compiled.render(context, add_generation_prompt=add_generation_prompt)


class _FasterSandbox(ImmutableSandboxedEnvironment):
    """The same sandbox with a short way to `message.role`, `loop.first` and `text.strip`.

    jinja2's own takes a failed look-up or a dozen checks for each of them, which is most of the time of most
    templates; every prompt of a session is rendered, so that time counts.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute, or an item of that name."""
        if type(obj) is dict and attribute not in _DICT_METHODS:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if (type(obj) is LoopContext and attribute in _LOOP_FIELDS) or (
            type(obj) is str and attribute in _TEXT_METHODS
        ):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def _faster(environment: Environment) -> _FasterSandbox:
    """Return a sandbox with another environment's extensions, filters, tests and globals."""
    out = _FasterSandbox(
        trim_blocks=environment.trim_blocks,
        lstrip_blocks=environment.lstrip_blocks,
        extensions=[type(extension) for extension in environment.extensions.values()],
    )
    out.filters.update(environment.filters)
    out.tests.update(environment.tests)
    out.globals.update(environment.globals)
    return out
