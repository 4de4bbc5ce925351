"""Which chat templates only ever append, read off their syntax tree.

Such a template renders a session as an opening, one piece of text for each message and a closing, where a piece depends
on no later message and the closing on none at all. One rendering then holds every earlier prompt: its first pieces
and the closing. A template that cannot be seen to be one is rendered once for each prompt instead, which takes time
in the square of the turns.

What is accepted is a short list; whatever is not on it is refused. Shown are

- one top-level loop over ``messages`` (or ``messages[n:]``, by this or another name), neither recursive nor broken off;
- elsewhere no more of ``messages`` than ``messages[0]``, which every prompt has;
- of ``loop`` only what looks back (``first``, ``index``, ``index0``, ``previtem``);
- ``add_generation_prompt`` in the closing only, and there nothing that was set before;
- no calls but methods of values, ``namespace``, ``range`` and ``raise_exception``; no macros, no imports, no blocks of
  extensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MESSAGES, _PROMPT = "messages", "add_generation_prompt"
_LOOKS_BACK = {"first", "index", "index0", "previtem"}
_CALLED = {"namespace", "raise_exception", "range"}
_SPECIAL = {"loop", "self", "super", "caller", "varargs", "kwargs"}
_STATEMENTS = (nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.Continue, nodes.AssignBlock)
_RANDOM = "random"


def marked(template: nodes.Template, mark: str) -> nodes.Template | None:
    """Mark where each message's text begins, and where the closing does.

    Args:
        template: a chat template's syntax tree; changed in place.
        mark: text that no session holds.

    Returns:
        The tree, printing the mark at the start of each round of the loop over messages and behind the loop; None where
        the template cannot be seen to only append.
    """
    aliases = {_MESSAGES, *_aliases(template)}
    if any(n.name == _MESSAGES and n.ctx == "store" for n in template.find_all(nodes.Name)):
        return None
    loops = [n for n in template.body if isinstance(n, nodes.For) and _names_session(n.iter, aliases)]
    if len(loops) != 1:
        return None
    loop = loops[0]
    at = template.body.index(loop)
    opening, closing = template.body[:at], template.body[at + 1 :]
    if loop.recursive or loop.test or loop.else_ or not isinstance(loop.target, nodes.Name):
        return None
    if not all(_appends(node, aliases) for node in [*opening, *loop.body]) or not _constant(template, closing, aliases):
        return None
    loop.body.insert(0, _output(mark))
    template.body.insert(at + 1, _output(mark))
    return template


def _output(text: str) -> nodes.Output:
    return nodes.Output([nodes.TemplateData(text, lineno=1)], lineno=1)


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _aliases(template: nodes.Template) -> set[str]:
    """Return names that are only ever set to the session or its rest."""
    values: dict[str, list[nodes.Node]] = {}
    for node in template.find_all(nodes.Assign):
        for target in node.target.find_all(nodes.Name) if not isinstance(node.target, nodes.Name) else [node.target]:
            values.setdefault(target.name, []).append(node.node)
    return {name for name, several in values.items() if all(_names_session(v, {_MESSAGES}) for v in several)}


def _names_session(node: nodes.Node, aliases: set[str]) -> bool:
    """Say whether an expression is the session, or the session from a fixed message on."""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        start = node.arg.start
        fixed = start is None or (isinstance(start, nodes.Const) and isinstance(start.value, int) and start.value >= 0)
        return fixed and node.arg.stop is None and node.arg.step is None and _names_session(node.node, aliases)
    return isinstance(node, nodes.Name) and node.name in aliases


def _appends(node: nodes.Node, aliases: set[str]) -> bool:
    """Say whether a statement depends on nothing that a longer session changes."""
    if isinstance(node, nodes.Assign) and _names_session(node.node, aliases) and isinstance(node.target, nodes.Name):
        return node.target.name in aliases
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and node.node.name in aliases:
        return isinstance(node.arg, nodes.Const) and node.arg.value == 0 and node.node.name == _MESSAGES
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop":
        return node.attr in _LOOKS_BACK
    if isinstance(node, nodes.Name):
        return node.name not in aliases | _SPECIAL | {_PROMPT}
    return _plain(node) and all(_appends(child, aliases) for child in node.iter_child_nodes())


def _plain(node: nodes.Node) -> bool:
    """Say whether a node by itself does nothing out of the ordinary."""
    if isinstance(node, nodes.Stmt):
        return isinstance(node, _STATEMENTS)
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) or (isinstance(node.node, nodes.Name) and node.node.name in _CALLED)
    return not (isinstance(node, nodes.Filter) and node.name == _RANDOM)


def _constant(template: nodes.Template, closing: Sequence[nodes.Node], aliases: set[str]) -> bool:
    """Say whether the closing is the same for every session."""
    stored = {n.name for n in template.find_all(nodes.Name) if n.ctx == "store"}
    stored |= {n.name for n in template.find_all(nodes.NSRef)}
    changing = stored | aliases | _SPECIAL
    parts = [part for node in closing for part in _walk(node)]
    return all(_plain(p) and not (isinstance(p, nodes.Name) and p.name in changing) for p in parts)
