"""Every prompt of a session out of one rendering, where it can be shown that the template would give the same.

Most chat templates append: an opening, one piece of text for each message, a closing. The prompt of a turn is then the
first pieces and the closing, and rendering each prompt anew, in time in the square of the turns, is waste. Whether a
template appends is not guessed from its text. It is rendered once, over messages that note which of them were looked
at. A template is a program without other input, so where nothing behind message k was looked at until its piece was
complete (nor how many there are), a session that ends there gives the same text up to there. What a template would do
further on (with tools, say) does not matter as long as it is not done.

What comes before the messages' loop may look at the end all the same, where it comes to the same (`opening`).

The closing comes after the end was seen. It has to be constant to be read off one rendering: it may look at nothing
that the messages or the pieces before it have set.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import nodes

from tiararodney.sekft.render.opening import Left, Opening
from tiararodney.sekft.render.reading import COUNT, KEEP, Looks, keeping, looks, shortened, walk
from tiararodney.sekft.render.watched import Seen, Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jinja2 import Environment, Template

_MESSAGES, _PROMPT = "messages", "add_generation_prompt"
_CALLED = {"namespace", "raise_exception", "range"}
_SPECIAL = {"loop", "self", "super", "caller", "varargs", "kwargs"}
_STATEMENTS = (nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.Continue, nodes.AssignBlock)
_RANDOM = "random"
_NOTHING = Looks((), {}, ())


@dataclass(frozen=True, slots=True)
class Pieces:
    """One rendering of a session, in pieces.

    Args:
        opening: the text before the first message's.
        messages: the text of each message.
        closing: the text behind the last message's, with a generation prompt.
        seen: for each message, the last one that was looked at from the first message's text on, until its own was
            complete; infinity where the end was.
        before: the last one that was looked at before.
        alike: says whether so many messages, alone, come to the same before the first one's text.
    """

    opening: str
    messages: list[str]
    closing: str
    seen: list[float]
    before: float = -1
    alike: Callable[[int], bool] = lambda _: False

    def final(self, size: int) -> bool:
        """Say whether the session's first messages, rendered alone, give these pieces and this closing."""
        return self.seen[size - 1] < size and (self.before < size or self.alike(size))


@dataclass(frozen=True)
class Marked:
    """A chat template, to be rendered in pieces.

    Args:
        template: prints a mark when a round of the loop over messages begins and when it ends.
        mark: what it prints; text that no session holds.
        opening: what comes before the loop; None where it cannot be held against that of a shorter session.
    """

    template: Template
    mark: str
    opening: Opening | None


def marked(environment: Environment, source: str, mark: str) -> Marked | None:
    """Have a template print marks around each message's text.

    Args:
        environment: what the template runs in.
        source: a chat template.
        mark: text that no session holds.

    Returns:
        None where it has no loop over the messages, or the closing is not constant.

    Raises:
        TemplateError: it is no template.
    """
    tree = environment.parse(source)
    loop = _last_loop(tree)
    if loop is None:
        return None
    at = tree.body.index(loop)
    before, closing = [*tree.body[:at], *loop.body], tree.body[at + 1 :]
    names = [part for node in before for part in walk(node) if isinstance(part, nodes.Name)]
    asks = any(name.name in (_PROMPT, KEEP, COUNT) for name in names)
    draws = any(f.name == _RANDOM for f in tree.find_all(nodes.Filter))
    if asks or draws or loop.recursive or loop.test or loop.else_ or not _constant(tree, loop, closing):
        return None
    looked = looks(tree, loop, closing)
    loop.body = [_output(mark), *loop.body, _output(mark)]
    tree.body[at:] = [keeping(looked or _NOTHING), loop, keeping(_NOTHING), *closing]
    opening = None
    if looked is not None:
        alone = environment.parse(source)
        alone.body = [*shortened(alone.body[:at]), keeping(looked)]
        opening = Opening(environment.from_string(alone), looked)
    return Marked(environment.from_string(tree), mark, opening)


def pieces(template: Marked, messages: Sequence[Mapping[str, str]], named: Mapping[str, str]) -> Pieces | None:
    """Render a marked template over messages that are watched.

    Args:
        template: a marked template.
        messages: a session, none of it holding the mark.
        named: the special tokens that it refers to.

    Returns:
        The pieces; None where the loop did not go through every message, or the closing looked at one.

    Raises:
        Exception: whatever the template raises.
    """
    chunks: list[str] = []
    places: list[int] = []
    seen: list[float] = []
    before: list[float] = []
    left: list[Left] = []
    noted = Seen()

    def keep(*values: object) -> str:
        # Called before the loop and behind it; each begins to note anew.
        if not before and template.opening is not None:
            with suppress(TypeError):  # what may change unnoticed is held against nothing
                left.append(template.opening.left(values))
        before.append(noted.taken())
        return ""

    context: dict[str, Any] = {"tools": None, "documents": None, _PROMPT: True, **named}
    asked: list[list[int]] = [[] for _ in template.opening.looked.questions] if template.opening else []

    def count(question: int, at: int) -> int:
        asked[question].append(at)
        return at

    watched = {_MESSAGES: Watched(messages, noted), KEEP: keep, COUNT: count}
    for chunk in template.template.generate(**{**context, **watched}):
        if chunk == template.mark:
            places.append(len(chunks))
            seen.append(noted.last)
        else:
            chunks.append(chunk)
    if len(places) != 2 * len(messages) or noted.last >= 0:
        return None
    starts, ends = places[::2], places[1::2]
    if any(end != start for end, start in zip(ends, starts[1:], strict=False)):
        return None
    opening = "".join(chunks[: starts[0]])
    texts = ["".join(chunks[a:b]) for a, b in zip(starts, ends, strict=True)]

    def alike(size: int) -> bool:
        if template.opening is None or not left:
            return False
        return template.opening.alike(messages[:size], context, opening, left[0], asked)

    return Pieces(opening, texts, "".join(chunks[ends[-1] :]), seen[1::2], before[0], alike)


def _output(text: str) -> nodes.Output:
    return nodes.Output([nodes.TemplateData(text, lineno=1)], lineno=1)


def _aliases(template: nodes.Template) -> set[str]:
    """Return the names that are only ever set to the session or its rest."""
    values: dict[str, list[nodes.Node]] = {_MESSAGES: []}
    for node in template.find_all(nodes.Assign):
        for target in node.target.find_all(nodes.Name) if not isinstance(node.target, nodes.Name) else [node.target]:
            values.setdefault(target.name, []).append(node.node)
    return {name for name, several in values.items() if all(_names_session(v, {_MESSAGES}) for v in several)}


def _names_session(node: nodes.Node, aliases: set[str]) -> bool:
    """Say whether an expression is the session, or the session from some message on."""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _names_session(node.node, aliases)
    return isinstance(node, nodes.Name) and node.name in aliases


def _last_loop(tree: nodes.Template) -> nodes.For | None:
    """Return the last of a template's statements that goes through the session."""
    names = _aliases(tree)
    loops = [n for n in tree.body if isinstance(n, nodes.For) and _names_session(n.iter, names)]
    return loops[-1] if loops else None


def _constant(tree: nodes.Template, loop: nodes.For, closing: Sequence[nodes.Node]) -> bool:
    """Say whether the closing looks at nothing that the messages' texts decide."""
    changing = {_MESSAGES} | _SPECIAL
    for node in (loop, *tree.find_all(nodes.Macro)):
        changing |= {n.name for n in walk(node) if isinstance(n, nodes.Name) and n.ctx == "store"}
        changing |= {n.name for n in walk(node) if isinstance(n, nodes.NSRef)}
    parts = [part for node in closing for part in walk(node)]
    return all(_plain(p) and not (isinstance(p, nodes.Name) and p.name in changing) for p in parts)


def _plain(node: nodes.Node) -> bool:
    """Say whether a node by itself does nothing out of the ordinary."""
    if isinstance(node, nodes.Stmt):
        return isinstance(node, _STATEMENTS)
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) or (isinstance(node.node, nodes.Name) and node.node.name in _CALLED)
    return True
