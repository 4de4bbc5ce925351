"""What a template works out before its loop over messages, and whether a shorter session comes out the same there.

Some templates look at a session's end before they write the first turn: Qwen3's looks for the last real question, to
drop the thoughts of turns before it. What that comes to is a handful of values, and the loop asks little of them. So
the statements before the loop, which are short, are run for each prompt, and what they write and leave behind is held
against what they write and leave for the whole session. What differs has to be a number that the loop does nothing with
but compare its own count of rounds with it (`loop.index0 > ns.last_query_index`), and every round of the shorter
session has to find the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from jinja2 import Undefined
from jinja2.utils import Namespace

from tiararodney.sekft.render.reading import KEEP, Looks, Number
from tiararodney.sekft.render.watched import Watched, first_of

if TYPE_CHECKING:
    from jinja2 import Template

Asked = Sequence[Sequence[int]]
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Left:
    """What an opening leaves behind that is looked at later.

    Args:
        fixed: all of it, but for the numbers.
        numbers: what rounds do nothing with but compare their count with.
    """

    fixed: tuple[object, ...]
    numbers: Mapping[Number, int]


@dataclass(frozen=True)
class Opening:
    """The statements before a template's loop over messages, as a template of their own.

    Args:
        template: compiled; hands over what it leaves behind.
        looked: how that is looked at.
    """

    template: Template
    looked: Looks

    def left(self, values: Sequence[object]) -> Left:
        """Take down the values of the variables that are looked at later, as they are now.

        Raises:
            TypeError: one is of a kind that may change unnoticed.
        """
        spaces = [id(value) for value in values if isinstance(value, Namespace)]
        if len(set(spaces)) != len(spaces):
            raise TypeError("a namespace of two names")
        asked = {question.number for question in self.looked.questions}
        numbers: dict[Number, int] = {}
        fixed = []
        for where, value in self._parts(values):
            if where in asked and type(value) is int:
                numbers[where] = value
            else:
                fixed.append((where, _copied(value)))
        return Left(tuple(fixed), numbers)

    def _parts(self, values: Sequence[object]) -> Iterator[tuple[Number, object]]:
        """Yield the values, namespaces by attributes."""
        for name, value in zip(self.looked.names, values, strict=True):
            if not isinstance(value, Namespace):
                yield (name, ""), value
                continue
            yield (name, "."), None  # no attribute is called so: it tells a namespace from a variable
            only = self.looked.attributes.get(name)
            for key, part in held(value).items():
                if only is None or key in only:
                    yield (name, key), part

    def alike(
        self, messages: Sequence[Mapping[str, str]], context: Mapping[str, Any], text: str, left: Left, asked: Asked
    ) -> bool:
        """Say whether a session begins with a text and leaves behind what another does, as far as its messages ask.

        Args:
            messages: the first messages of the other.
            context: what else the template is given.
            text: what the other begins with.
            left: what the other leaves behind.
            asked: for each question, the counts of the other's rounds that ask it.
        """
        kept: list[Left] = []

        def keep(*values: object) -> str:
            kept.append(self.left(values))
            return ""

        try:
            begins = self.template.render(**{**context, "messages": Watched(messages, None), KEEP: keep})
        except Exception:  # noqa: BLE001 - the template is a program of somebody else's; rendered as served it is told
            return False
        own = kept[0]
        if begins != text or own.fixed != left.fixed or own.numbers.keys() != left.numbers.keys():
            return False
        for question, counts in zip(self.looked.questions, asked, strict=True):
            one, other = own.numbers.get(question.number, 0), left.numbers.get(question.number, 0)
            if one != other:
                rounds = counts[: bisect_left(counts, len(messages) + question.first)]
                if question.differs(rounds, one, other):
                    return False
        return True


def held(namespace: Namespace) -> Mapping[str, object]:
    """Return a namespace's attributes."""
    # Anything else that is asked of one is looked up among them.
    return cast("Mapping[str, object]", object.__getattribute__(namespace, "_Namespace__attrs"))


def _copied(value: object) -> object:
    """Return a copy of a value in which equal means the same.

    Raises:
        TypeError: it is of a kind that may change unnoticed.
    """
    if type(value) in _PLAIN:
        return type(value), value
    if isinstance(value, Undefined):
        return "undefined"
    if isinstance(value, Watched):
        return "session", first_of(value)
    if type(value) in (list, tuple) and isinstance(value, Sequence):
        return type(value), tuple(_copied(part) for part in value)
    if type(value) is dict:
        return dict, tuple((_copied(k), _copied(v)) for k, v in value.items())
    raise TypeError(f"a {type(value).__name__} may change unnoticed")
