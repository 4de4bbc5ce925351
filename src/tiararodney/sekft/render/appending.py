"""Every prompt of a session out of one rendering, where it can be shown that the template would give the same.

Most chat templates append: an opening, one piece of text for each message, a closing. The prompt of a turn is then the
first pieces and the closing, and rendering each prompt anew, in time in the square of the turns, is waste. Whether a
template appends is not guessed from its text. It is rendered once, over messages that note which of them were looked
at. A template is a program without other input, so where nothing behind message k was looked at until its piece was
complete (nor how many there are), a session that ends there gives the same text up to there. What a template would do
further on (with tools, say) does not matter as long as it is not done.

The closing comes after the end was seen. It has to be constant to be read off one rendering: it may look at nothing
that the messages or the pieces before it have set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import nodes

if TYPE_CHECKING:
    from jinja2 import Template

_MESSAGES, _PROMPT = "messages", "add_generation_prompt"
_CALLED = {"namespace", "raise_exception", "range"}
_SPECIAL = {"loop", "self", "super", "caller", "varargs", "kwargs"}
_STATEMENTS = (nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.Continue, nodes.AssignBlock)
_RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Pieces:
    """One rendering of a session, in pieces.

    Args:
        opening: the text before the first message's.
        messages: the text of each message.
        closing: the text behind the last message's, with a generation prompt.
        seen: for each message, the last one that was looked at before its text was complete; infinity where the end
            was.
    """

    opening: str
    messages: list[str]
    closing: str
    seen: list[float]

    def final(self, size: int) -> bool:
        """Say whether the session's first messages, rendered alone, give these pieces and this closing."""
        return self.seen[size - 1] < size


def marked(tree: nodes.Template, mark: str) -> nodes.Template | None:
    """Have a template print marks around each message's text.

    Args:
        tree: a chat template's syntax tree; changed in place.
        mark: text that no session holds.

    Returns:
        The tree, printing the mark when a round of the loop over messages begins and when it ends; None where there is
        not one such loop, or the closing is not constant.
    """
    loops = [n for n in tree.body if isinstance(n, nodes.For) and _names_session(n.iter, _aliases(tree))]
    if len(loops) != 1:
        return None
    loop = loops[0]
    at = tree.body.index(loop)
    before, closing = [*tree.body[:at], *loop.body], tree.body[at + 1 :]
    asks = any(part.name == _PROMPT for node in before for part in _walk(node) if isinstance(part, nodes.Name))
    draws = any(f.name == _RANDOM for f in tree.find_all(nodes.Filter))
    if asks or draws or loop.recursive or loop.test or loop.else_ or not _constant(tree, closing):
        return None
    loop.body = [_output(mark), *loop.body, _output(mark)]
    return tree


def pieces(
    template: Template, messages: Sequence[Mapping[str, str]], mark: str, named: Mapping[str, str]
) -> Pieces | None:
    """Render a marked template over messages that are watched.

    Args:
        template: compiled from a tree that `marked` has returned.
        messages: a session, none of it holding the mark.
        mark: what it prints.
        named: the special tokens that it refers to.

    Returns:
        The pieces; None where the loop did not go through every message.

    Raises:
        Exception: whatever the template raises.
    """
    chunks: list[str] = []
    places: list[int] = []
    seen: list[float] = []
    noted = Seen()
    context = {"messages": Watched(messages, noted), "tools": None, "documents": None, _PROMPT: True}
    for chunk in template.generate(**context, **named):
        if chunk == mark:
            places.append(len(chunks))
            seen.append(noted.last)
        else:
            chunks.append(chunk)
    if len(places) != 2 * len(messages):
        return None
    starts, ends = places[::2], places[1::2]
    if any(end != start for end, start in zip(ends, starts[1:], strict=False)):
        return None
    texts = ["".join(chunks[a:b]) for a, b in zip(starts, ends, strict=True)]
    return Pieces("".join(chunks[: starts[0]]), texts, "".join(chunks[ends[-1] :]), seen[1::2])


class Seen:
    """How far messages were looked at: the index of the last, infinity where it is known how many there are."""

    last: float = -1

    def note(self, index: float) -> None:
        """Note that a message was looked at."""
        self.last = max(self.last, index)


class Watched(Sequence[Mapping[str, str]]):
    """A session that notes how far it was looked at. What a sequence has no method for fails: nothing goes unnoticed.

    Args:
        messages: the session.
        seen: where it is noted.
        start: the message of it that is the first here.
    """

    def __init__(self, messages: Sequence[Mapping[str, str]], seen: Seen, start: int = 0) -> None:
        self._messages, self._seen, self._start = messages, seen, start

    def __len__(self) -> int:
        self._seen.note(math.inf)
        return max(0, len(self._messages) - self._start)

    def __bool__(self) -> bool:
        there = self._start < len(self._messages)
        self._seen.note(self._start if there else math.inf)
        return there

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            if (index.start or 0) >= 0 and index.stop is None and index.step is None:
                return Watched(self._messages, self._seen, self._start + (index.start or 0))
            self._seen.note(math.inf)
            return self._messages[self._start :][index]
        known = 0 <= index < len(self._messages) - self._start
        self._seen.note(self._start + index if known else math.inf)
        return self._messages[self._start :][index] if index < 0 else self._messages[self._start + index]

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        for index in range(self._start, len(self._messages)):
            self._seen.note(index)
            yield self._messages[index]
        self._seen.note(math.inf)

    def __reversed__(self) -> Iterator[Mapping[str, str]]:
        self._seen.note(math.inf)
        return iter(self._messages[self._start :][::-1])

    def __eq__(self, other: object) -> bool:
        raise TypeError("not compared: it would not be noted")

    def __hash__(self) -> int:
        raise TypeError("not hashed: lists are not")

    def __repr__(self) -> str:
        raise TypeError("not printed: it would not be noted")


def _output(text: str) -> nodes.Output:
    return nodes.Output([nodes.TemplateData(text, lineno=1)], lineno=1)


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


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


def _constant(template: nodes.Template, closing: Sequence[nodes.Node]) -> bool:
    """Say whether the closing looks at nothing that the messages or the text before it decide."""
    stored = {n.name for n in template.find_all(nodes.Name) if n.ctx == "store"}
    stored |= {n.name for n in template.find_all(nodes.NSRef)}
    changing = stored | {_MESSAGES} | _SPECIAL
    parts = [part for node in closing for part in _walk(node)]
    return all(_plain(p) and not (isinstance(p, nodes.Name) and p.name in changing) for p in parts)


def _plain(node: nodes.Node) -> bool:
    """Say whether a node by itself does nothing out of the ordinary."""
    if isinstance(node, nodes.Stmt):
        return isinstance(node, _STATEMENTS)
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) or (isinstance(node.node, nodes.Name) and node.node.name in _CALLED)
    return True
