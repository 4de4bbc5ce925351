"""How a template looks at what it has worked out before its loop over messages, read off its syntax tree."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KEEP, COUNT = "sekft_keep", "sekft_count"
"""Under these names a template finds the functions that take what an opening leaves behind, and what rounds compare."""
Number = tuple[str, str]
"""Where a number stands: a namespace and its attribute; a variable and nothing."""
_STATEMENTS = (
    nodes.Output,
    nodes.If,
    nodes.For,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.Macro,
    nodes.CallBlock,
    nodes.ExprStmt,
    nodes.Continue,
    nodes.Break,
)
_COUNTS = ("index0", "index")
_TURNED = {"gt": "lt", "lt": "gt", "gteq": "lteq", "lteq": "gteq", "eq": "eq", "ne": "ne"}
_EDGES = {"gteq": 0, "lt": 0, "gt": 1, "lteq": 1}
"""How far behind a number the counts begin that a comparison finds otherwise than those before."""


@dataclass(frozen=True, slots=True)
class Question:
    """A comparison of the count of a loop's rounds with a number.

    Args:
        number: where the number stands.
        edge: how far behind the number the counts begin that are found otherwise; None where it is asked for the very
            number.
        first: how the first round is counted.
    """

    number: Number
    edge: int | None
    first: int

    def differs(self, counts: Sequence[int], one: int, other: int) -> bool:
        """Say whether one of the counts finds two numbers otherwise.

        Args:
            counts: those that ask, ascending.
            one: a number.
            other: another.
        """
        if self.edge is None:
            return one != other and (one in counts or other in counts)
        low, high = sorted((one + self.edge, other + self.edge))
        return bisect_left(counts, low) < bisect_left(counts, high)


@dataclass(frozen=True)
class Looks:
    """How the rest of a template looks at what its opening leaves behind.

    Args:
        names: the variables that it looks at.
        attributes: for those that are namespaces of which single attributes are looked at, and nothing else: which.
        questions: all that it asks of some numbers.
    """

    names: tuple[str, ...]
    attributes: Mapping[str, frozenset[str]]
    questions: tuple[Question, ...]


def looks(tree: nodes.Template, loop: nodes.For, closing: Sequence[nodes.Node]) -> Looks | None:
    """Find how a template's loop over messages, its closing and its macros look at what stands before the loop.

    Where the loop does nothing with a number but compare the count of its rounds with it, the count is handed to a
    function first, which notes who asks: the tree is changed in place.

    Args:
        tree: the template.
        loop: one of its statements.
        closing: those after it.

    Returns:
        None where that cannot be told.
    """
    opening = tree.body[: tree.body.index(loop)]
    macros = [n for n in opening if isinstance(n, nodes.Macro)]
    names = Counter(name for node in opening if not isinstance(node, nodes.Macro) for name in _stored(node))
    defined = [m.name for m in macros]
    # A macro may be called before all is set: what it looks at has to be set once and for all.
    within = {n for m in macros for n in _loaded(m) - {a.name for a in m.args}}
    if (
        any(isinstance(n, nodes.Stmt) and not isinstance(n, _STATEMENTS) for n in walk(tree))
        or sum(isinstance(n, nodes.Macro) for n in walk(tree)) != len(macros)
        or len(set(defined)) != len(defined)
        or not names.keys().isdisjoint(defined)
        or any(names[n] > 1 for n in within)
        or any(n.name == "loop" and n.ctx != "load" for n in tree.find_all(nodes.Name))
    ):
        return None
    later = set(within).union(*(_loaded(n) for n in (loop, *closing)))
    kept = tuple(sorted(names.keys() & later))
    comparisons = [n for n in _of_rounds(loop.body) if isinstance(n, nodes.Compare) and _question(n)]
    single, whole = _looked_at((loop, *closing), comparisons)
    whole |= within
    questions: list[Question] = []
    for node in comparisons:
        question = _question(node)
        if question and question.number[0] not in whole and question.number not in single:
            _have_counted(node, len(questions))
            questions.append(question)
    numbers = single | {q.number for q in questions}
    attributes = {name: frozenset(a for n, a in numbers if n == name) for name in kept if name not in whole}
    return Looks(kept, attributes, tuple(questions))


def keeping(looked: Looks) -> nodes.Output:
    """Return a statement that hands over the values of the variables that are looked at later."""
    values: list[nodes.Expr] = [nodes.Name(name, "load", lineno=1) for name in looked.names]
    return nodes.Output([_called(KEEP, values)], lineno=1)


def shortened(statements: Sequence[nodes.Node]) -> list[nodes.Node]:
    """Return statements whose loops end where they have nothing more to do.

    A loop that does all it does under one flag, and sets nothing else but variables of its rounds to counts, is over
    when the flag is down: nothing in it can raise it again. Without this, what is looked for from a session's end on
    takes time in the square of the turns.
    """
    out = []
    for node in statements:
        flag = _flag(node) if isinstance(node, nodes.For) else None
        if flag is not None and isinstance(node, nodes.For):
            over = nodes.If(nodes.Not(flag, lineno=1), [nodes.Break(lineno=1)], [], [], lineno=1)
            node.body = [*node.body, over]
        out.append(node)
    return out


def walk(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield a node and all nodes in it."""
    yield node
    for child in node.iter_child_nodes():
        yield from walk(child)


def _stored(node: nodes.Node) -> list[str]:
    return [n.name for n in walk(node) if isinstance(n, nodes.Name) and n.ctx == "store"]


def _loaded(node: nodes.Node) -> set[str]:
    """Return the names of the variables that a node looks at, or sets attributes of."""
    out = {n.name for n in walk(node) if isinstance(n, nodes.Name) and n.ctx == "load"}
    return out | {n.name for n in walk(node) if isinstance(n, nodes.NSRef)}


def _of_rounds(body: Sequence[nodes.Node]) -> Iterator[nodes.Node]:
    """Yield the nodes to which `loop` is the loop with this body."""
    for node in body:
        yield node
        if isinstance(node, nodes.For):
            yield from _of_rounds([node.iter])
        else:
            yield from _of_rounds(list(node.iter_child_nodes()))


def _looked_at(parts: Sequence[nodes.Node], comparisons: Sequence[nodes.Compare]) -> tuple[set[Number], set[str]]:
    """Return which numbers, and which variables as a whole, are looked at other than in some comparisons."""
    single: set[Number] = set()
    whole: set[str] = set()
    done = {id(n) for c in comparisons for n in walk(_sides(c)[1])}
    for node in (n for part in parts for n in walk(part)):
        if id(node) in done:
            continue
        if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
            single.add((node.node.name, node.attr))
            done.add(id(node.node))
        elif isinstance(node, nodes.NSRef):
            single.add((node.name, node.attr))
        elif isinstance(node, nodes.Name):
            whole.add(node.name)
    return single, whole


def _sides(node: nodes.Compare) -> tuple[nodes.Expr, nodes.Expr]:
    """Return the count's side of a comparison and the other."""
    one, other = node.expr, node.ops[0].expr
    return (one, other) if _is_count(one) else (other, one)


def _question(node: nodes.Compare) -> Question | None:
    """Read a comparison of the count of rounds with a number."""
    if len(node.ops) != 1:
        return None
    count, asked = _sides(node)
    op = node.ops[0].op if count is node.expr else _TURNED.get(node.ops[0].op, "")
    named = asked.node if isinstance(asked, nodes.Getattr) else asked
    if op not in _TURNED or not isinstance(count, nodes.Getattr) or not _is_count(count):
        return None
    if not isinstance(named, nodes.Name) or named.name == "loop":
        return None
    number = (named.name, asked.attr if isinstance(asked, nodes.Getattr) else "")
    return Question(number, _EDGES.get(op), _COUNTS.index(count.attr))


def _is_count(node: nodes.Node) -> bool:
    of_loop = isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop"
    return of_loop and isinstance(node, nodes.Getattr) and node.attr in _COUNTS


def _have_counted(node: nodes.Compare, question: int) -> None:
    """Hand the count in a comparison to the function that notes it."""
    if _is_count(node.expr):
        node.expr = _called(COUNT, [nodes.Const(question, lineno=1), node.expr])
    else:
        node.ops[0].expr = _called(COUNT, [nodes.Const(question, lineno=1), node.ops[0].expr])


def _called(name: str, values: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load", lineno=1), values, [], None, None, lineno=1)


def _flag(loop: nodes.For) -> nodes.Expr | None:
    """Return the flag under which a loop does all that it does."""
    if loop.recursive or loop.else_ or loop.test:
        return None
    flags: list[nodes.Node] = []
    for node in loop.body:
        if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name):
            continue
        if not isinstance(node, nodes.If) or node.elif_ or node.else_:
            return None
        first: nodes.Node = node.test
        while isinstance(first, nodes.And):
            first = first.left
        flags.append(first)
    if not flags or any(f != flags[0] for f in flags):
        return None
    own = {name for node in loop.body for name in _stored(node)} | set(_stored(loop.target)) | {"loop"}
    flag = flags[0]
    if not isinstance(flag, nodes.Getattr) or not isinstance(flag.node, nodes.Name) or flag.node.name in own:
        return None
    counts = [node.node for node in loop.body if isinstance(node, nodes.Assign)]
    return flag if all(_harmless(count, own) for count in counts) else None


def _harmless(node: nodes.Node, own: set[str]) -> bool:
    """Say whether an expression only counts: messages, rounds, and sums of both."""
    if isinstance(node, nodes.Filter):
        of = node.node
        return node.name in {"length", "count"} and isinstance(of, nodes.Name) and of.name not in own and not node.args
    if isinstance(node, nodes.Add | nodes.Sub):
        return _harmless(node.left, own) and _harmless(node.right, own)
    return (isinstance(node, nodes.Const) and isinstance(node.value, int)) or _is_count(node)
