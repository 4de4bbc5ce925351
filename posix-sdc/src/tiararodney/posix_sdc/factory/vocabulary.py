"""Seeded words: real nouns for files and texts, invented ones for programs, so that nothing can be learnt by heart."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, TypeVar

from tiararodney.posix_sdc.factory.phrasing import vary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _words(
    """acorn amber anchor apple arrow autumn badge bakery barley basin beacon bench berry birch blanket bottle branch
    bridge bronze brook bucket butter button cabin candle canvas carbon carpet castle cedar cellar chalk
    cherry chest clover coast cobalt copper coral corner cotton cradle crane creek crystal cup curtain daisy
    dawn delta desert door dragon drum eagle earth echo elbow ember engine fabric falcon farm feather fence
    ferry field fig finch flame flint flower forest fountain fox frost garden garlic gate ginger glacier glass
    globe granite grape gravel grove hammer harbor harvest hazel hedge helmet heron hill hollow honey horizon
    horse island ivory jacket jar jasmine jungle kettle kitchen kite ladder lagoon lake lamp lantern laurel
    leaf lemon lily linen lion lobby locket lotus magnet maple marble market marsh meadow melon mercury mill
    mint mirror mist monkey moon moss mountain needle nest nickel noodle north nutmeg oak ocean olive onion
    orange orchard orchid otter oven owl oyster paddle palace palm panel paper parrot pastry path peach peanut
    pear pearl pebble pencil pepper pigeon pillow pine pipe planet plaza plum pocket pond poppy potato powder
    prairie prism pumpkin quartz quill rabbit radish raft rail rain raven reef ribbon rice ridge river robin
    rocket roof root rope rose saddle sail salmon salt sand sapphire scarf seed shadow shell shore silk silver
    sky smoke snow soap spark sparrow spice spider spring spruce square stable star steam stone storm stove
    straw stream sugar summer sunset swan table tea temple thorn thread thunder tiger timber tin tower trail
    tree tulip tunnel turtle valley vase velvet village vine violet wagon walnut water wave wheat wheel willow
    wind window wing winter wolf wood wool yard zebra zinc"""
)

PEOPLE = _words(
    """ada ben cora dan edna felix greta hugo ines jonas kira liam mara nils olga paul rita sven tara vera"""
)

LIST_VERBS = _words(
    """list ls show-all open pending index all browse overview scan waiting roll survey toc queue what agenda rows
    stack outline digest board census"""
)
SHOW_VERBS = _words(
    """show read get print open-one view cat peek fetch display take pull reveal tell body text detail look recite
    unfold pick full"""
)
DONE_VERBS = _words("done close finish tick resolve archive ack drop complete strike retire clear settle")
BEGIN_VERBS = _words("start up begin wake boot enter connect awake unlock serve")
CLAIM_VERBS = _words("claim grab reserve assign hold book sign seize bag bid")
LANE_VERBS = _words("queues lanes lines streams tracks channels rows-of belts")
ADMIN_VERBS = _words("rebuild purge import migrate compact audit rotate verify freeze thaw mirror renumber vacuum")
KEY_OPTIONS = _words("--key --code --seal --token --pass --word")
SHEET_OPTIONS = _words("-f -s -r --sheet --file --rules --from")
IDLE_OPTIONS = _words("--colour --width --format --since --until --locale --pager --timeout --verbose-level --margin")

_CHOICE = re.compile(r"\(([^()|]*(?:\|[^()|]*)+)\)")  # the innermost: (one|another)
_SHORT = 5  # names of so few letters may be commands
_ONSET = _words("b d f g h j k l m n p r s t v z br dr gr kr pl st tr")
_VOWEL = tuple("aeiou")
_CODA = _words("l m n r s t k x nd sk")


def wordings(text: str) -> tuple[str, ...]:
    """Return the items of a list, each of which begins with ``- `` and may go on in further lines."""
    items = re.split(r"^\s*- ", text.strip("\n"), flags=re.MULTILINE)
    return tuple(" ".join(item.split()) for item in items if item.strip())


class Draw:
    """A seeded source of choices that never hands out the same name twice.

    Words are chosen apart from everything else: another wording anywhere leaves a world's files and checks as they are.

    Args:
        rng: where all randomness comes from.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._words = random.Random(rng.getrandbits(64))  # noqa: S311 - not for secrets
        self._taken: set[str] = set()

    def pick(self, among: Sequence[T]) -> T:
        """Return one of a sequence."""
        return self.rng.choice(among)

    def phrase(self, template: str) -> str:
        r"""Return a text in which each ``(one|another|)`` has become one of its alternatives.

        Alternatives may hold further ones; ``\(`` and ``\)`` are parentheses that stay.
        """
        text = template.replace("\\(", "\1").replace("\\)", "\2")
        while match := _CHOICE.search(text):
            text = text[: match.start()] + self._words.choice(match[1].split("|")) + text[match.end() :]
        return re.sub(r"  +", " ", text.replace("\1", "(").replace("\2", ")")).strip(" ")

    def wording(self, texts: Sequence[str]) -> str:
        """Return one of several wordings, with its choices made, see `phrase`."""
        return vary(self.say(texts), self._words)

    def say(self, templates: Sequence[str]) -> str:
        """Return one of several texts, with its choices made, see `phrase`."""
        return self.phrase(self._words.choice(templates))

    def weighted(self, shares: Mapping[str, int]) -> str:
        """Return a key, drawn by its weight."""
        return self.rng.choices(list(shares), weights=list(shares.values()))[0]

    def weighted_number(self, shares: Mapping[int, int]) -> int:
        """Return a number, drawn by its weight."""
        return self.rng.choices(list(shares), weights=list(shares.values()))[0]

    def chance(self, probability: float) -> bool:
        """Return true with a probability."""
        return self.rng.random() < probability

    def number(self, low: int, high: int) -> int:
        """Return an integer between two bounds, both included."""
        return self.rng.randint(low, high)

    def numbers(self, n: int, low: int, high: int) -> list[int]:
        """Return distinct integers."""
        return self.rng.sample(range(low, high + 1), n)

    def noun(self) -> str:
        """Return a real noun that was not handed out before."""
        return self._fresh(lambda: self.rng.choice(NOUNS))

    def nouns(self, n: int) -> list[str]:
        """Return distinct fresh nouns."""
        return [self.noun() for _ in range(n)]

    def variable(self) -> str:
        """Return the name of a shell variable that nothing else uses."""
        word = self.noun()
        return (self.noun() if word == "path" else word).upper()

    def invented(self, syllables: int = 2) -> str:
        """Return a pronounceable word that does not exist."""
        return self._fresh(
            lambda: "".join(
                self.rng.choice(_ONSET) + self.rng.choice(_VOWEL) + (self.rng.choice(_CODA) if i else "")
                for i in range(syllables)
            )
        )

    def program(self) -> str:
        """Return the name of a program that no system has: six letters or more."""
        while True:
            name = self._fresh(
                lambda: "".join(
                    self.rng.choice(_ONSET) + self.rng.choice(_VOWEL) + self.rng.choice(_CODA) for _ in range(2)
                )
            )
            if len(name) > _SHORT:
                return name

    def verb(self, known: Sequence[str]) -> str:
        """Return a subcommand: an ordinary one, a noun or an invented word."""
        if self.chance(0.65):
            return self._fresh(lambda: self.rng.choice(known))
        return self.noun() if self.chance(0.6) else self.invented()

    def file(self, *extensions: str) -> str:
        """Return a fresh file name with one of the extensions (``txt`` where none is given)."""
        kind = self.weighted({"noun": 72, "pair": 8, "number": 14, "invented": 6})
        stem = self.invented() if kind == "invented" else self.noun()
        if kind == "pair":
            stem += f"-{self.rng.choice(NOUNS)}"
        elif kind == "number":
            stem += f"{self.rng.choice(('', '-', '_'))}{self.number(1, 99)}"
        return f"{stem}.{self.rng.choice(extensions or ('txt',))}"

    def person(self) -> str:
        """Return a first name, an invented one where all have been handed out."""
        if self._taken.issuperset(PEOPLE):
            return self.invented()
        return self._fresh(lambda: self.rng.choice(PEOPLE))

    def _fresh(self, make: object) -> str:
        assert callable(make)
        for _ in range(1000):
            word = str(make())
            if word not in self._taken:
                self._taken.add(word)
                return word
        raise RuntimeError("the vocabulary is exhausted: a scenario asked for more distinct words than there are")
