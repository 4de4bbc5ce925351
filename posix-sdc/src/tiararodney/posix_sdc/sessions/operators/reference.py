"""The scripted reference operator: discovers, reads, retrieves, works and ends as a competent person would."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UnplayableError
from tiararodney.posix_sdc.records.axes import how_to_read
from tiararodney.posix_sdc.records.schema import Directive, Scenario
from tiararodney.posix_sdc.sessions.operators import habits

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Message

Plan = Generator[str, str, None]  # yields commands, is sent what the terminal shows
Outcome = Generator[str, str, str]  # the same, and returns why the work cannot be done

# Commands that leave something behind even where their input is missing: only a look tells before.
_BLIND = (">>", "tar c")
_TROUBLE = ("No such file", "cannot", "can't", "Permission denied", "not permitted", "denied")
_ROOM = 19  # commands, with the work that is still ahead, beyond which nothing is done that could be left out


class ReferenceOperator:
    """Acts in one session; knows the scenario, but uses a name only after the terminal has shown it.

    Args:
        scenario: the session's scenario.
        seed: of its variety in order and means.
        sample: which of several sessions of the scenario it is.
    """

    name = "reference"

    def __init__(self, scenario: Scenario, seed: int = 0, sample: int = 0) -> None:
        self.scenario, self.seed = scenario, f"{seed}/{sample}" if sample else str(seed)
        # How much variety the bundle asks for: none in the plain worlds that small models begin with.
        self.variety = max((float(d.extra.get("variety", 0)) for d in scenario.directives), default=0.0)
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._rng = random.Random(f"{self.seed}/{self.scenario.id}")  # noqa: S311 - not for secrets
        self._shown, self._commands, self._slipped, self._there = "", 0, False, False
        works = [w for d in self.scenario.directives for w in d.extra.get("works", ())]
        self._ahead = sum(len(w["solution"]) for w in works)  # commands of work
        self._plan: Plan | None = None

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the next command, given the session so far."""
        output = messages[-1]["content"]
        self._shown += output
        self._commands += 1
        try:
            if self._plan is None:
                self._plan = self._session()
                return next(self._plan)
            return self._plan.send(output)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise UnplayableError(f"{self.scenario.id} lacks what the reference operator needs: {error!r}") from error

    # ----------------------------------------------------------------------------------------------- the session

    def _session(self) -> Plan:
        yield from self._discover()
        yield from self._read()
        entries = yield from self._retrieve()
        for directive in entries:
            reason = yield from self._fulfil(directive)
            if reason:
                yield f"panic {reason}"
                return
            yield from self._close(directive)
        yield "exit"

    def _maybe(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _varied(self, probability: float) -> bool:
        """Say yes with a probability where the bundle asks for variety and the session has room for it."""
        return bool(self.variety) and self._commands + self._ahead < _ROOM and self._maybe(probability)

    def _knows(self, word: str) -> bool:
        return word in self._shown

    # -------------------------------------------------------------------------------------------------- discovery

    def _discover(self) -> Plan:
        """Look around until the provider's name has been shown."""
        name, said = self.scenario.provider.name, self.scenario.announcement
        if said.extra.get("leads"):
            yield from self._seek(said.extra["leads"])
            return
        chain: list[Mapping[str, str]] = list(said.extra.get("chain", ()))
        first = chain[0]["name"] if chain else name
        if self._varied(0.12):
            yield self._rng.choice(("pwd", "id -un", "ls -a"))
        if not self._knows(first):
            yield from self._look_around(first)
        for place in chain:
            if self._knows(name):
                break
            yield self._rng.choice(habits.READING[place["kind"]]).format(name=place["name"])
        if not self._knows(name):
            yield f"panic no directives are announced, {name} was never shown"

    def _seek(self, leads: Sequence[Mapping[str, Sequence[str]]]) -> Plan:
        """Look where people look first, in any order, then where something turned up."""
        first = set(leads[0]["try"])
        places = [look for look in habits.LANDING if not first & set(look)]
        for look in self._rng.sample(places, self._rng.choice((1, 1, 2, 2, 3))):
            yield self._rng.choice(look)
        yield from self._follow(leads)
        if any(command.startswith("cd ") for lead in leads for command in lead["try"]):
            yield "cd -"

    def _follow(self, leads: Sequence[Mapping[str, Sequence[str]]]) -> Plan:
        """Take each step whose words are not known yet.

        Raises:
            LookupError: a step has not shown what it should.
        """
        for lead in leads:
            if all(map(self._knows, lead["shows"])) and not lead.get("always"):
                continue
            command = self._rng.choice(lead["try"])
            yield command
            missed = [word for word in lead["shows"] if not self._knows(word)]
            if missed:
                raise LookupError(f"{self.scenario.id}: {command!r} does not show {missed}")

    def _look_around(self, wanted: str) -> Plan:
        file = self.scenario.announcement.path.rpartition("/")[2]
        looks: list[str] = ["ls", "env"]
        if self._maybe(0.2):
            looks.reverse()
        for look in looks:
            yield self._rng.choice(habits.LOOKING[look]) if self.variety else look
            if look == "ls" and file and file in self._shown:
                yield f"cat {file}"
            if self._knows(wanted):
                return

    def _read(self) -> Plan:
        """Read the provider's documentation, the announced way or by trying the usual ones."""
        provider = self.scenario.provider
        way = how_to_read(provider)
        named = provider.documentation != "usage" and self._knows(way)
        if self._varied(0.06):
            yield f"{provider.name} {self._rng.choice(('list', 'status', 'next'))}"
        if not named and provider.documentation != "usage":
            # Nothing says how: a bare call or --help points to the right way.
            yield self._rng.choice([w for w in (provider.name, f"{provider.name} --help") if w != way])
        elif not named and self._maybe(0.15) and self.scenario.announcement.text.count(provider.name) == 1:
            yield f"{provider.name} --help"
        if not self._documented():
            yield way

    def _documented(self) -> bool:
        provider = self.scenario.provider
        tells = provider.extra.get("tells") or [c for c in provider.verbs.values() if not c.startswith("cat")]
        return all(self._knows(call) for call in tells)

    # -------------------------------------------------------------------------------------------------- directives

    def _retrieve(self) -> Generator[str, str, Sequence[Directive]]:
        """List and show the directives."""
        verbs, directives = self.scenario.provider.verbs, self.scenario.directives
        if "begin" in verbs:
            if self._varied(0.1):
                yield verbs["list"]
            yield verbs["begin"]
        if "list" not in verbs:
            yield verbs["show"]
            return directives
        if "queues" in verbs:
            yield verbs["queues"]
        listed = yield verbs["list"]
        if "more" in verbs:
            listed += yield verbs["more"]
        by_id = {d.id: d for d in directives if d.id in listed}
        if len(by_id) < len(directives):
            raise LookupError(
                f"{self.scenario.id}: the list shows {sorted(by_id)}, expected {[d.id for d in directives]}"
            )
        if len(directives) == 1 or self._maybe(0.5):
            for directive in directives:
                yield from self._show(directive)
        return directives

    def _show(self, directive: Directive) -> Plan:
        verbs = self.scenario.provider.verbs
        if self._varied(0.05) and verbs["show"].endswith(" {id}"):
            yield verbs["show"].removesuffix(" {id}")
        if "claim" in verbs:
            if self._varied(0.1):
                yield self._call("show", directive)
            yield self._call("claim", directive)
        yield self._call("show", directive)

    def _call(self, verb: str, directive: Directive) -> str:
        call = self.scenario.provider.verbs[verb]
        if call in ("cat", "cat {path}"):
            return f"cat {self._path(directive)}"
        return call.replace("{id}", directive.id) if "{id}" in call else f"{call} {directive.id}".rstrip()

    def _path(self, directive: Directive) -> str:
        ends = f"/{directive.id}"
        return next(line for line in self._shown.split() if line.endswith(ends) and line.startswith("/"))

    def _close(self, directive: Directive) -> Plan:
        verbs = self.scenario.provider.verbs
        if "done" not in verbs:
            return
        if "list" in verbs:
            yield self._call("done", directive)
        elif directive is self.scenario.directives[-1]:
            yield verbs["done"]

    # -------------------------------------------------------------------------------------------------------- work

    def _fulfil(self, directive: Directive) -> Outcome:
        """Do what a directive says; return why it cannot be done, empty when it is."""
        if not self._knows(directive.text):
            yield from self._show(directive)
        place = directive.extra.get("place", {})
        if place and not self._there:
            yield from self._follow(place["leads"])
            yield f"cd {place['path']}"
            self._there = True
        works: list[Mapping[str, Any]] = directive.extra.get("works", [])
        if not works and "solution" in directive.extra:  # a teacher's bundle: one piece of work a directive
            works = [directive.extra]
        if not works:  # another maker's bundle, which tells of the whole only
            if directive is self.scenario.directives[-1]:
                for command in self.scenario.reference_solution:  # noqa: UP028 - a tuple takes nothing that is sent
                    yield command
                if self.scenario.terminal == "panic":
                    return "the directive cannot be done"
            return ""
        for work in works:
            reason = yield from self._work(work)
            if reason:
                return reason
        return ""

    def _work(self, guide: Mapping[str, Any]) -> Outcome:
        """Do one piece of work; return why it cannot be done, empty when it is."""
        if guide["block"] == "contradiction":
            return str(guide["reason"])
        yield from self._follow(guide.get("learn", ()))
        solution: list[str] = list(guide["solution"])
        if guide.get("ways") and not guide["block"] and self._maybe(self.variety):
            solution = list(self._rng.choice(guide["ways"]))
        if guide["inputs"] and self._looks_first(guide):
            seen = yield self._look(guide)
            if _trouble(seen):
                return (yield from self._give_up(guide))
        yield from self._slip(guide, solution[0])
        for command in solution:
            seen = yield command
            if guide["block"] and (_trouble(seen) or (guide["reason"] and guide["reason"] in seen)):
                return (yield from self._give_up(guide))
        self._ahead -= len(solution)
        if guide["verify"] and (self._varied(0.4) if self.variety else self._maybe(0.2)):
            yield self._rng.choice(guide["verify"])
        return ""

    def _looks_first(self, guide: Mapping[str, Any]) -> bool:
        lost = guide["block"] in ("missing", "denied")
        if self.variety:
            # Who would leave something behind, were the input not there, looks; others often do.
            return lost or self._varied(0.5)
        # Where the work has several steps or several inputs, going ahead without a look would leave half of it behind.
        forced = lost and (len(guide["solution"]) > 1 or len(guide["inputs"]) > 1)
        return forced or any(blind in command for command in guide["solution"] for blind in _BLIND) or self._maybe(0.25)

    def _look(self, guide: Mapping[str, Any]) -> str:
        path = guide["inputs"][0]
        if not self.variety or (guide["block"] == "missing" and self._maybe(0.5)):
            return f"ls {path}"
        readable = habits.is_text(path, self.scenario)
        if guide["block"] == "denied":
            return self._rng.choice((f"cat {path}", f"head -n 3 {path}"))
        return self._rng.choice((f"cat {path}", f"head -n 3 {path}", f"ls {path}")) if readable else f"ls {path}"

    def _slip(self, guide: Mapping[str, Any], command: str) -> Plan:
        """Once in a while mistype a name, read what the shell says, and look at what is there."""
        mistyped = "" if guide["block"] or self._slipped else habits.mistyped(command, guide["inputs"])
        if mistyped and self._varied(0.08):
            self._slipped = True
            yield mistyped
            if self._maybe(0.7):
                yield "ls"

    def _give_up(self, guide: Mapping[str, Any]) -> Outcome:
        if guide["block"] == "missing" and self._maybe(0.25):
            yield "ls"
        if guide["block"] == "denied" and self._maybe(0.25):
            yield f"ls -l {guide['inputs'][0]}"
        return str(guide["reason"])


def _trouble(output: str) -> bool:
    return any(word in output for word in _TROUBLE)


class ScriptedOperator:
    """Gives prepared replies one after the other, then ``exit``; for tests, the gate and demonstrations.

    Args:
        replies: the assistant turns.
        name: what records call it.
    """

    def __init__(self, replies: Sequence[str], name: str = "scripted") -> None:
        self.replies, self.name = tuple(replies), name
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._at = 0

    def reply(self, messages: Sequence[Message]) -> str:  # noqa: ARG002 - the protocol's argument
        """Return the next prepared reply."""
        self._at += 1
        return self.replies[self._at - 1] if self._at <= len(self.replies) else "exit"


OperatorFactory = Callable[[Scenario], Any]
