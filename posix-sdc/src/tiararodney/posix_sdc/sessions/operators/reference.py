"""The scripted reference operator: discovers, reads, retrieves, looks, works, verifies and ends as a person would."""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UnplayableError
from tiararodney.posix_sdc.records.axes import how_to_read
from tiararodney.posix_sdc.sessions.judgement import one_command
from tiararodney.posix_sdc.sessions.loop import Mistake
from tiararodney.posix_sdc.sessions.operators import habits
from tiararodney.posix_sdc.sessions.operators.facts import Facts
from tiararodney.posix_sdc.sessions.operators.mistakes import Moment, mistake
from tiararodney.posix_sdc.sessions.operators.scripted import ScriptedOperator
from tiararodney.posix_sdc.sessions.operators.standing import pieces, removal
from tiararodney.posix_sdc.worlds.filesystem import USER

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Directive, Message, Scenario
    from tiararodney.posix_sdc.sessions.operators.standing import Standing

__all__ = ["ReferenceOperator", "ScriptedOperator"]

Plan = Generator[str, str, None]  # yields commands, is sent what the terminal shows
Outcome = Generator[str, str, str]  # the same, and returns why the work cannot be done

_TROUBLE = ("No such file", "cannot", "can't", "Permission denied", "not permitted", "denied")
_MISTAKEN = 0.31  # share of the sessions that hold a mistake
_EARLY = 0.3  # of these, those that make it with the provider
_ASTRAY = 0.4  # share of the named places that are taken for a file, or looked for here
_PREVIEW = 0.12  # share of the works whose output is looked for before there is any
_PLAIN_PREVIEW = 0.3  # the same in plain worlds, which have one or two works: errors have to be commoner than panics
_LONG = 12  # lines of a file beyond which one reads its beginning first
_LOOKS = 8  # at what a piece of work takes for granted, before it is given up as unplayable


class ReferenceOperator:
    """Acts in one session; knows the scenario, but uses nothing before the terminal has shown it.

    Given a session that somebody else began, it goes on from there: what has been shown is not looked for again, a
    piece of work that is done is verified, one that is half done is looked at and finished.

    Args:
        scenario: the session's scenario.
        seed: of its choices.
        sample: which of several sessions of the scenario it is.
        standing: of a session that somebody else began; it makes no mistakes in one. None for a fresh one.
    """

    name = "reference"

    def __init__(self, scenario: Scenario, seed: int = 0, sample: int = 0, standing: Standing | None = None) -> None:
        self.scenario, self.seed = scenario, f"{seed}/{sample}" if sample else str(seed)
        self._standing = standing
        # How much variety the bundle asks for: none in the plain worlds that small models begin with.
        self.variety = max((float(d.extra.get("variety", 0)) for d in scenario.directives), default=0.0)
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._rng = random.Random(f"{self.seed}/{self.scenario.id}")  # noqa: S311 - not for secrets
        places = (d.extra.get("place", {}).get("path") for d in self.scenario.directives)
        self._place = next((str(path) for path in places if path), self.scenario.workdir)  # where the work lies
        self._facts = Facts(self.scenario, self._place)
        self._heard = 0  # messages
        self._typed: list[str] = []
        self._answers: dict[str, str] = {}  # what commands showed the last time
        self._at = self._standing.at if self._standing else self.scenario.workdir  # the working directory
        self._left = iter(self._standing.left if self._standing else ())
        self._tidied = False
        self._plan: Plan | None = None
        works = [w for d in self.scenario.directives for w in d.extra.get("works", ()) if not w.get("block")]
        mistaken = self._maybe(_MISTAKEN) and self._standing is None
        self._early = mistaken and (not works or self._maybe(_EARLY))
        self._late = works[self._rng.randrange(len(works))] if mistaken and not self._early else None

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the next command, given the session so far.

        Raises:
            UnplayableError: the bundle lacks what the operator needs, or a command would use what nothing has shown.
        """
        if one_command(self.scenario):
            return self.scenario.reference_solution[0]
        for message in messages[self._heard :]:
            if message["role"] == "assistant":
                self._typed.append(message["content"])
            else:
                self._facts.show(message["content"])
                if self._typed:
                    self._answers[self._typed[-1]] = message["content"]
        self._heard = len(messages)
        try:
            if self._plan is None:
                self._plan = self._session()
                command = next(self._plan)
            else:
                command = self._plan.send(messages[-1]["content"])
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise UnplayableError(f"{self.scenario.id} lacks what the reference operator needs: {error!r}") from error
        unshown = [] if isinstance(command, Mistake) or command.startswith("panic ") else self._facts.missing(command)
        if unshown:
            raise UnplayableError(f"{self.scenario.id}: {command!r} uses {unshown[0]!r}, which nothing has shown")
        return command

    # ----------------------------------------------------------------------------------------------- the session

    def _session(self) -> Plan:
        if self._standing and (self._place == self.scenario.workdir or not self._knows(self.scenario.provider.name)):
            yield from self._return()
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

    def _return(self) -> Plan:
        """Return to the folder where the session started, if it has left; `pwd` shows where it is."""
        home = self.scenario.workdir
        if self._at == home:
            return
        if self._typed[-1:] != ["pwd"]:
            yield "pwd"
        if self._standing and self._standing.previous == home:
            yield "cd -"
        elif home == f"/home/{USER}":
            yield "cd"
        elif self._knows(home):
            yield f"cd {home}"
        else:
            raise UnplayableError(f"{self.scenario.id}: nothing has shown the way back to {home}")
        self._at = home

    def _done_before(self, command: str) -> bool:
        """Return whether a command of the earlier operator succeeded."""
        return self._standing is not None and command in self._answers and not _trouble(self._answers[command])

    def _listed_before(self) -> bool:
        """Return whether the earlier operator has seen the list of directives, or all of them."""
        verbs, directives = self.scenario.provider.verbs, self.scenario.directives
        listed = "".join(self._answers.get(verbs[verb], "") for verb in ("list", "more") if verb in verbs)
        return all(self._knows(d.text) or ("list" in verbs and d.id in listed) for d in directives)

    def _maybe(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _varied(self, probability: float) -> bool:
        """Say yes with a probability where the bundle asks for variety."""
        return bool(self.variety) and self._maybe(probability)

    def _knows(self, word: str) -> bool:
        return self._facts.knows(word)

    def _usable(self, commands: Sequence[str]) -> list[str]:
        return [c for c in commands if not self._facts.missing(c)]

    # -------------------------------------------------------------------------------------------------- discovery

    def _discover(self) -> Plan:
        """Look around until the provider's name has been shown."""
        name, said = self.scenario.provider.name, self.scenario.announcement
        chain: list[Mapping[str, str]] = list(said.extra.get("chain", ()))
        if said.extra.get("named"):
            yield from self._go(said.text, said.extra["leads"])
        elif said.extra.get("leads"):
            yield from self._seek(said.extra["leads"])
        elif not self._knows(chain[0]["name"] if chain else name):
            if self._varied(0.12):
                yield self._rng.choice(("pwd", "id -un", "ls -a"))
            yield from self._look_around(chain[0]["name"] if chain else name)
        for place in chain:
            if self._knows(name):
                break
            yield self._rng.choice(habits.READING[place["kind"]]).format(name=place["name"])
        if not self._knows(name):
            raise UnplayableError(f"{self.scenario.id}: nothing that was looked at names the provider {name}")

    def _go(self, said: str, leads: Sequence[Mapping[str, Any]]) -> Plan:
        """Read the announcement and go to the place that it names."""
        if self._knows(self.scenario.provider.name):
            return
        if not self._knows(said):
            yield from self._look_around(said)
        if self._standing is None and self._maybe(_ASTRAY):
            yield from self._go_astray(str(leads[0]["try"][0]))
        yield from self._follow(leads)

    def _go_astray(self, look: str) -> Plan:
        """Take a folder for a file, or look for a place in the working directory, where the name alone is no path."""
        utility, _, path = look.rpartition(" ")
        folder, _, name = path.rpartition("/")
        if utility == "cat":
            yield Mistake(f"cat {name}")
            yield f"ls {folder}"
        else:
            yield Mistake(self._rng.choice([f"cat {path}", *([f"ls {name}", f"cat {name}"] if folder else [])]))

    def _seek(self, leads: Sequence[Mapping[str, Any]]) -> Plan:
        """Look in the usual places in any order, then follow what was found."""
        if self._knows(self.scenario.provider.name):
            return
        first = set(leads[0]["try"])
        places = [look for look in habits.LANDING if not first & set(look)]
        for look in self._rng.sample(places, self._rng.choice((1, 1, 2, 2, 3))):
            yield self._rng.choice(self._usable(look))
        yield from self._follow(leads)
        if any(command.startswith("cd ") for lead in leads for command in lead["try"]):
            yield "cd -"

    def _look_around(self, wanted: str) -> Plan:
        file = self.scenario.announcement.path.rpartition("/")[2]
        if self._standing and file and self._knows(file):
            yield f"cat {file}"
            if self._knows(wanted):
                return
        looks: list[str] = ["ls", "env"]
        if self._maybe(0.2):
            looks.reverse()
        for look in looks:
            yield self._rng.choice(habits.LOOKING[look]) if self.variety else look
            if look == "ls" and file and self._knows(file):
                yield f"cat {file}"
            if self._knows(wanted):
                return

    def _follow(self, leads: Sequence[Mapping[str, Any]]) -> Plan:
        """Follow leads, each until it has shown its words.

        Raises:
            LookupError: a step has not shown it.
        """
        for lead in leads:
            tries = self._usable(lead["try"])
            self._rng.shuffle(tries)
            if lead.get("always") and tries:
                yield tries.pop()
            while tries and not all(map(self._knows, lead["shows"])):
                yield tries.pop()
            if not all(map(self._knows, lead["shows"])):
                raise LookupError(f"none of {lead['try']} shows {lead['shows']}")

    def _read(self) -> Plan:
        """Read the provider's documentation, the announced way or by trying the usual ones."""
        provider = self.scenario.provider
        way = how_to_read(provider)
        named = provider.documentation != "usage" and self._knows(way)
        if self._documented():
            return
        if self._early and self._maybe(0.5):
            # A call out of habit, where the documentation has not been read: it points there.
            habit = ("list", "status", "next", "show", "help", "ls")
            calls = {call.partition("{id}")[0].strip() for call in provider.verbs.values()}
            guesses = [f"{provider.name} {verb}" for verb in habit]
            yield Mistake(self._rng.choice([guess for guess in guesses if guess not in calls]))
            self._early = False
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
        if self._standing and self._listed_before():
            return directives
        if "begin" in verbs:
            if self._early and "list" in verbs:
                self._early = False
                yield Mistake(verbs["list"])
                yield how_to_read(self.scenario.provider)
            yield verbs["begin"]
        if "list" not in verbs:
            yield verbs["show"]
            return directives
        if "queues" in verbs:
            yield verbs["queues"]
        listed = yield verbs["list"]
        if "more" in verbs:
            listed += yield verbs["more"]
        ids = {d.id for d in directives if d.id in listed}
        if len(ids) < len(directives):
            raise LookupError(f"the list shows {sorted(ids)}, expected {[d.id for d in directives]}")
        if self._early:
            yield from self._ask_for_another(listed)
        if len(directives) == 1 or self._maybe(0.5):
            yield from self._show_all(directives)
        return directives

    def _show_all(self, directives: Sequence[Directive]) -> Plan:
        for directive in directives:
            if not self._standing or not self._knows(directive.text):
                yield from self._show(directive)

    def _ask_for_another(self, listed: str) -> Plan:
        """Ask for an entry that is somebody else's or done already, or not there; then read the list again."""
        verbs, own = self.scenario.provider.verbs, {d.id for d in self.scenario.directives}
        firsts = [words[0].rstrip(":").rpartition("/") for line in listed.splitlines() if (words := line.split())]
        others = [
            (folder, i)
            for folder, _, i in firsts
            if i not in own and re.search(rf"^\S*{re.escape(i)}:? ", listed, re.M)
        ]
        others = [(folder, i) for folder, i in others if i not in ("page", "$")]
        if others and verbs["show"] in ("cat", "cat {path}"):
            folder, other = self._rng.choice(others)
            yield Mistake(f"cat {folder}/{other}")
        elif "{id}" in verbs["show"]:
            other = self._rng.choice(others)[1] if others else f"{self.scenario.directives[0].id}0"
            yield Mistake(verbs["show"].replace("{id}", other))
        else:
            return
        self._early = False
        yield verbs["list"]

    def _show(self, directive: Directive) -> Plan:
        if "claim" in self.scenario.provider.verbs:
            if self._early:
                self._early = False
                yield Mistake(self._call("show", directive))
                yield how_to_read(self.scenario.provider)
            if not self._done_before(self._call("claim", directive)):
                yield self._call("claim", directive)
        yield self._call("show", directive)

    def _call(self, verb: str, directive: Directive) -> str:
        call = self.scenario.provider.verbs[verb]
        if call in ("cat", "cat {path}"):
            return f"cat {self._path(directive)}"
        return call.replace("{id}", directive.id) if "{id}" in call else f"{call} {directive.id}".rstrip()

    def _path(self, directive: Directive) -> str:
        return self._facts.find(rf"(?<!\S)/\S*/{re.escape(directive.id)}(?!\S)")

    def _close(self, directive: Directive) -> Plan:
        verbs = self.scenario.provider.verbs
        if "done" not in verbs:
            return
        if "list" in verbs:
            call = self._call("done", directive)
        elif directive is self.scenario.directives[-1]:
            call = verbs["done"]
        else:
            return
        if not self._done_before(call):
            yield call

    # -------------------------------------------------------------------------------------------------------- work

    def _fulfil(self, directive: Directive) -> Outcome:
        """Do what a directive says; return why it cannot be done, empty when it is."""
        if not self._knows(directive.text):
            yield from self._show(directive)
        place = directive.extra.get("place", {})
        if place and self._at != place["path"]:
            yield from self._follow(place["leads"])
            yield f"cd {place['path']}"
            self._at = place["path"]
        yield from self._tidy()
        works = pieces(directive)
        if not works:  # a bundle of another generator has one solution for all
            if directive is self.scenario.directives[-1]:
                for command in next(self._left, self.scenario.reference_solution):
                    yield from self._learn([command])
                    yield command
                if self.scenario.terminal == "panic":
                    return "the directive cannot be done"
            return ""
        for work in works:
            reason = yield from self._work(work, directive)
            if reason:
                return reason
        return ""

    def _tidy(self) -> Plan:
        """Remove stray files of the earlier operator after a look at them."""
        strays = self._standing.strays if self._standing and not self._tidied else ()
        self._tidied = True
        if strays:
            inside, hidden = any("/" in path[:-1] for path in strays), any(path.startswith(".") for path in strays)
            yield "find ." if inside else "ls -a" if hidden else "ls"
            yield removal(strays)

    def _work(self, guide: Mapping[str, Any], directive: Directive) -> Outcome:
        """Look, act and verify; return why the work cannot be done, empty when it is."""
        block, reason = str(guide.get("block", "")), str(guide.get("reason", ""))
        outputs = [str(out) for out in guide.get("outputs", ())]
        if block == "contradiction":  # read again what was asked for: it says both
            verbs = self.scenario.provider.verbs
            yield self._call("show", directive) if "list" in verbs else verbs["show"]
            return reason
        done, solution = self._way(guide)
        if not solution:
            if done:
                yield from self._verify(guide, done, outputs)
            return ""
        if done:
            yield from self._look_at(done)
        yield from self._follow(guide.get("learn", ()))
        solution, look = yield from self._go_wrong(guide, solution, outputs)
        if look:
            seen = yield look
            if block in ("missing", "denied") and _trouble(seen):
                return (yield from self._confirm(guide))
        yield from self._learn(solution)
        for command in solution:
            seen = yield command
            if block and (_trouble(seen) or (reason and reason in seen)):
                return (yield from self._confirm(guide))
        if block:
            raise UnplayableError(f"{self.scenario.id}: the work is blocked ({block}), and no command has shown it")
        yield from self._verify(guide, solution, outputs)
        return ""

    def _go_wrong(
        self, guide: Mapping[str, Any], solution: list[str], outputs: Sequence[str]
    ) -> Generator[str, str, tuple[list[str], str]]:
        """Look for a result before there is one, or make a mistake; return the commands and the look that are left."""
        preview = self._usable([f"{self._rng.choice(('ls', 'cat'))} {out}" for out in outputs])
        if preview and self._maybe(_PREVIEW if self.variety else _PLAIN_PREVIEW) and not self._standing:
            yield preview[0]
        look = self._look(guide, solution)
        moment = Moment(self._rng, solution, guide.get("inputs", ()), look, self._place)
        found = mistake(moment) if guide is self._late else None
        if found is None:
            return solution, look
        if found.after_the_look:
            if look:
                yield look
            yield from self._learn(solution)
            look = ""
        yield from found.plan
        return solution[1:] if found.does_the_work else solution, look

    def _way(self, guide: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return the commands of a piece of work: those already run, and those left."""
        ways = [list(way) for way in (guide["solution"], *guide.get("ways", ()))]
        if self._standing:
            left = list(next(self._left))
            way = next(way for way in ways if not left or way[-len(left) :] == left)
            return way[: len(way) - len(left)], left
        if len(ways) > 1 and not guide.get("block") and self._maybe(self.variety):
            return [], self._rng.choice(ways[1:])
        return [], ways[0]

    def _look_at(self, done: Sequence[str]) -> Plan:
        """Look at the results of the first commands of a piece of work."""
        texts = [f for f in habits.touched(done)[0] if re.search(r"\.\w+$", f) and not _is_archive(f)]
        look = (self._usable([f"cat {' '.join(texts)}"]) if texts else []) or ["ls"]
        if self._typed[-1] != look[0]:
            yield look[0]

    def _look(self, guide: Mapping[str, Any], solution: Sequence[str]) -> str:
        """Return the command that looks at what the work starts from: contents, names or rights, as it needs.

        Empty where the last command has shown just that.
        """
        block, inputs = guide.get("block"), [str(path) for path in guide.get("inputs", ())]
        scripts = re.findall(r"(?<![\w/-])[\w-]+\.sh\b", " ".join(solution))
        inputs += [p for p in scripts if p not in inputs and self._facts.lines(p) and self._knows(p)]
        if not inputs:
            look = "ls"
        elif any(re.search(r"\bchmod|-perm", command) for command in solution):
            look = f"ls -l {inputs[0]}"
        elif _is_archive(inputs[0]) and block != "missing":
            look = f"tar tf {inputs[0]}"
        elif self._facts.is_folder(inputs[0]):
            look = f"ls {inputs[0]}"
        elif block:  # only trying to read it tells
            look = f"{self._rng.choice(('cat', 'ls')) if block == 'missing' else 'cat'} {inputs[0]}"
        else:
            texts = [path for path in inputs if not _is_archive(path) and not self._facts.is_folder(path)]
            longest = max(self._facts.lines(path) or 0 for path in texts)
            look = f"{'head' if longest > _LONG or self._varied(0.2) else 'cat'} {' '.join(texts)}"
        return "" if self._typed[-1:] == [look] else look

    def _learn(self, commands: Sequence[str]) -> Plan:
        """Look until all that these commands use has been shown."""
        for _ in range(_LOOKS):
            unshown = [word for command in commands for word in self._facts.missing(command)]
            unread = self._unread(commands)
            if unread:
                yield f"cat {unread}"
                continue
            looks = [c for c in self._facts.looks(unshown) if c not in self._typed[-2:]] if unshown else []
            # What a look itself takes for granted, a name in a folder, has to be looked for before.
            usable = self._usable(looks) or self._usable(
                [c for look in looks for c in self._facts.looks(self._facts.missing(look))]
            )
            if not usable:
                return
            yield usable[0]

    def _unread(self, commands: Sequence[str]) -> str:
        """Return a file of a folder whose files the commands read, where none of them has been read."""
        for folder in re.findall(r"\b(?:grep|sed|awk|cat)\b[^|;]* ([\w./-]+)/\*", "\n".join(commands)):
            inside = [path for path in self._facts.within(folder) if self._knows(path.rpartition("/")[2])]
            if inside and not any(c.startswith(("cat ", "head ")) and f" {folder}/" in c for c in self._typed):
                return inside[0]
        return ""

    def _verify(self, guide: Mapping[str, Any], solution: Sequence[str], outputs: Sequence[str]) -> Plan:
        """Verify the work: look at each file that it wrote, and at folders that files were removed from."""
        named_looks = [str(c) for c in guide.get("verify", ()) if not re.search(r"(^|[;&|] *)echo ", str(c))]
        results = [f"cat {out}" for out in outputs if "." in out and not _is_archive(out) and not out.endswith(".gz")]
        shows = self._usable([c for c in named_looks if c != "ls"] + results)
        if self._standing and self._typed[-1] in shows:  # who began the session has just looked
            return
        first = self._rng.choice(shows or self._usable(named_looks) or ["ls"])
        yield first
        written, gone = habits.touched(solution)
        named = set(re.findall(r"[\w./-]+", first)) | ({"."} if first.startswith("ls") else set())
        left = [f for f in written if f not in named and f.rstrip("/").rpartition("/")[0] not in named]
        texts = [f for f in left if re.search(r"\.\w+$", f) and not _is_archive(f) and not f.endswith(".gz")]
        if texts:
            yield f"cat {' '.join(texts)}"
        folders = {f.rstrip("/").rpartition("/")[0] for f in [*left, *gone] if f not in texts} - named
        if folders and (first != "ls" or folders != {""}):
            here = ["."] if "" in folders and len(folders) > 1 else []
            yield " ".join(["ls", *here, *sorted(folders - {""})])

    def _confirm(self, guide: Mapping[str, Any]) -> Outcome:
        """Check that the cause lies in the world, and name it."""
        inputs = [str(path) for path in guide.get("inputs", ())]
        path = inputs[0] if inputs else ""
        folder, _, name = path.rpartition("/")
        if guide["block"] == "missing":
            inside = folder and self._facts.is_folder(folder)
            looks = [f"ls {folder}", f"ls -a {folder}"] if inside else ["ls", "ls -a", f"find . -name '{name}'"]
        elif guide["block"] == "denied":
            long = "ls -ld" if self._facts.is_folder(path) else "ls -l"
            looks = [f"{long} {path}", f"{long} {path}; id -un", f"stat -c '%U %a' {path}"]
        else:
            programs = [p for p in re.findall(r"[\w-]+\.sh", " ".join(guide["solution"])) if self._knows(p)]
            looks = [f"cat {p}" for p in programs[-1:] if not any(p in c for c in self._typed[-3:-1])] or ["ls"]
        yield self._rng.choice(self._usable(looks) or ["ls"])
        return str(guide["reason"])


def _is_archive(path: str) -> bool:
    return path.endswith((".tar", ".tar.gz", ".tgz"))


def _trouble(output: str) -> bool:
    return any(word in output for word in _TROUBLE)
