"""The scripted reference operator: discovers, reads, retrieves, works and ends as a competent person would."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.providers import how_to_read
from tiararodney.posix_sdc.schema import Directive, Scenario

if TYPE_CHECKING:
    from tiararodney.posix_sdc.rollout import Message

Plan = Generator[str, str, None]  # yields commands, is sent what the terminal shows

# Commands that leave something behind even where their input is missing: only a look tells before.
_BLIND = (">>", "tar c")
_TROUBLE = ("No such file", "cannot", "can't", "Permission denied", "not permitted", "denied")


class ReferenceOperator:
    """Acts in one session; knows the scenario, but uses a name only after the terminal has shown it.

    Args:
        scenario: the session's scenario.
        seed: of its variety in order and means.
    """

    name = "reference"

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self.scenario, self.seed = scenario, seed
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._rng = random.Random(f"{self.seed}/{self.scenario.id}")  # noqa: S311 - not for secrets
        self._shown = ""
        self._plan: Plan | None = None

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the next command, given the session so far."""
        output = messages[-1]["content"]
        self._shown += output
        if self._plan is None:
            self._plan = self._session()
            return next(self._plan)
        return self._plan.send(output)

    # ----------------------------------------------------------------------------------------------- the session

    def _session(self) -> Plan:
        yield from self._discover()
        yield from self._read()
        entries = yield from self._retrieve()
        for directive in entries:
            reason = yield from self._work(directive)
            if reason:
                yield f"panic {reason}"
                return
            yield from self._close(directive)
        yield "exit"

    def _maybe(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _knows(self, word: str) -> bool:
        return word in self._shown

    def _discover(self) -> Plan:
        """Look around until the provider's name has been shown."""
        name, said = self.scenario.provider.name, self.scenario.announcement
        if self._knows(name):
            return
        looks: list[str] = ["ls", "env"]
        if self._maybe(0.2):
            looks.reverse()
        for look in looks:
            yield look
            file = said.path.rpartition("/")[2]
            if look == "ls" and file and file in self._shown:
                yield f"cat {file}"
            if self._knows(name):
                return
        yield f"panic no directives are announced ({name} was never shown)"

    def _read(self) -> Plan:
        """Read the provider's documentation, the announced way or by trying the usual ones."""
        provider = self.scenario.provider
        way = how_to_read(provider)
        named = provider.documentation != "usage" and self._knows(way)
        if not named and provider.documentation != "usage":
            # Nothing says how: a bare call or --help points to the right way.
            yield self._rng.choice([w for w in (provider.name, f"{provider.name} --help") if w != way])
        elif not named and self._maybe(0.15) and self.scenario.announcement.text.count(provider.name) == 1:
            yield f"{provider.name} --help"
        if not self._documented():
            yield way

    def _documented(self) -> bool:
        calls = self.scenario.provider.verbs.values()
        return all(self._knows(call) for call in calls if call != "cat")

    def _retrieve(self) -> Generator[str, str, Sequence[Directive]]:
        """List and show the directives."""
        verbs, directives = self.scenario.provider.verbs, self.scenario.directives
        if "list" not in verbs:
            yield verbs["show"]
            return directives
        listed = yield verbs["list"]
        by_id = {d.id: d for d in directives if d.id in listed}
        if len(by_id) < len(directives):
            raise LookupError(
                f"{self.scenario.id}: the list shows {sorted(by_id)}, expected {[d.id for d in directives]}"
            )
        if len(directives) == 1 or self._maybe(0.5):
            for directive in directives:
                yield self._show(directive)
        return directives

    def _show(self, directive: Directive) -> str:
        verbs = self.scenario.provider.verbs
        if verbs["show"] == "cat":
            return f"cat {self._path(directive)}"
        return f"{verbs['show']} {directive.id}"

    def _path(self, directive: Directive) -> str:
        ends = f"/{directive.id}"
        return next(line for line in self._shown.split() if line.endswith(ends) and line.startswith("/"))

    def _work(self, directive: Directive) -> Generator[str, str, str]:
        """Do what a directive says; return why it cannot be done, empty when it is."""
        if not self._knows(directive.text):
            yield self._show(directive)
        guide = directive.extra
        if guide["block"] == "contradiction":
            return str(guide["reason"])
        solution: list[str] = list(guide["solution"])
        if guide["inputs"] and self._looks_first(guide):
            seen = yield f"ls {guide['inputs'][0]}"
            if _trouble(seen):
                return (yield from self._give_up(guide))
        for command in solution:
            seen = yield command
            if guide["block"] and (_trouble(seen) or (guide["reason"] and guide["reason"] in seen)):
                return (yield from self._give_up(guide))
        if guide["verify"] and self._maybe(0.2):
            yield self._rng.choice(guide["verify"])
        return ""

    def _looks_first(self, guide: Mapping[str, Any]) -> bool:
        # Where the work has several steps or several inputs, going ahead without a look would leave half of it behind.
        forced = guide["block"] in ("missing", "denied") and (len(guide["solution"]) > 1 or len(guide["inputs"]) > 1)
        return forced or any(blind in command for command in guide["solution"] for blind in _BLIND) or self._maybe(0.25)

    def _give_up(self, guide: Mapping[str, Any]) -> Generator[str, str, str]:
        if guide["block"] == "missing" and self._maybe(0.25):
            yield "ls"
        if guide["block"] == "denied" and self._maybe(0.25):
            yield f"ls -l {guide['inputs'][0]}"
        return str(guide["reason"])

    def _close(self, directive: Directive) -> Plan:
        verbs = self.scenario.provider.verbs
        if "done" not in verbs:
            return
        if "list" in verbs:
            yield f"{verbs['done']} {directive.id}"
        elif directive is self.scenario.directives[-1]:
            yield verbs["done"]


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
