"""The two records on disk, `Scenario` and `Trajectory`: frozen, JSON in and out.

Field names and their order are those of the published data set. Its nested shapes are not public, so a reader
takes an object or a JSON string for each nested field, keeps keys it does not know (in `extra`, written out again),
and refuses a shape that no world can be made of, naming file, field, what was found and what is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.records.files import SCENARIOS, TRAJECTORIES, records
from tiararodney.posix_sdc.records.reader import Reader, decoded, plain

SCHEMA_VERSION = "1"
TERMINALS = ("exit", "panic")
SPLITS = ("train", "holdout")
ANNOUNCEMENT_KINDS = ("motd", "banner", "env", "file")
DOCUMENTATION_KINDS = ("help", "man", "usage")
FIXTURE_KINDS = ("file", "dir", "symlink")
OWNERS = ("user", "root")
ROLES = ("system", "user", "assistant")

Terminal = Literal["exit", "panic"]
Split = Literal["train", "holdout"]
Message = Mapping[str, str]  # {role, content}, as chat templates and endpoints take it

_INTERPRETER = re.compile(r"/[A-Za-z0-9_.+/-]+( [A-Za-z0-9_.+/=,:-]+)*")
_LAST_SECOND = 2**33  # what every tar can say of a time


# -------------------------------------------------------------------------------------------------------- scenario


@dataclass(frozen=True)
class Fixture:
    """A file, folder or symbolic link that a world starts with.

    Args:
        path: absolute path in the world.
        content: text of a file.
        kind: ``file``, ``dir`` or ``symlink``.
        mode: octal digits; ``755`` for a folder and ``644`` otherwise where it is empty.
        owner: ``user`` (the session's user) or ``root``.
        target: where a symbolic link points.
        mtime: seconds since 1970 of its last change; 0 for the time that everything in a world has.
        start: run it once as the session's user before the first prompt, in `workdir`, with the session's environment
            and no terminal; what it leaves running is there during the session, and ends with it.
    """

    path: str
    content: str = ""
    kind: str = field(default="file", metadata={"among": FIXTURE_KINDS})
    mode: str = ""
    owner: str = field(default="user", metadata={"among": OWNERS})
    target: str = ""
    mtime: int = field(default=0, metadata={"seldom": True, "below": _LAST_SECOND})
    start: bool = field(default=False, metadata={"seldom": True})
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.mode:
            object.__setattr__(self, "mode", "755" if self.kind == "dir" else "644")

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "fixtures") -> Self:
        """Read one fixture."""
        r = Reader(data, source, at)
        out = r.record(cls)
        if set(out.mode) - set("01234567"):
            raise r.refuse("mode", "octal digits such as '644'")
        if not out.path.startswith("/") or "\0" in out.path or ".." in out.path.split("/"):
            raise r.refuse("path", "an absolute path without '..'")
        if out.start and (out.kind != "file" or not int(out.mode, 8) & 0o1):
            raise r.refuse("start", "a file that everybody may execute (mode '755')")
        return out


@dataclass(frozen=True)
class Announcement:
    """Where and how a world says that directives exist.

    Args:
        kind: ``motd`` and ``banner`` are printed at login, ``env`` is an environment variable, ``file`` a file.
        text: what it says.
        variable: name of the variable, for ``env``.
        path: absolute path of the file, for ``file``.
    """

    kind: str = field(metadata={"among": ANNOUNCEMENT_KINDS})
    text: str
    variable: str = ""
    path: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "announcement") -> Self:
        """Read an announcement."""
        r = Reader(data, source, at)
        out = r.record(cls)
        if out.kind == "env" and not out.variable.isidentifier():
            raise r.refuse("variable", "the name of an environment variable, since announcement.kind is 'env'")
        if out.kind == "file" and not out.path.startswith("/"):
            raise r.refuse("path", "an absolute path, since announcement.kind is 'file'")
        return out


@dataclass(frozen=True)
class Provider:
    """The program that hands out directives, with its own documentation.

    Args:
        name: what a user types.
        kind: what sort of program it is (queue, mailbox, board, ...).
        documentation: ``help``, ``man`` or ``usage``: where the program explains itself.
        files: what makes up the provider (program, data, man page), root's.
        verbs: what each abstract step is called here, for the reference operator (``{"list": "ls", "show": "get"}``).
    """

    name: str
    kind: str = ""
    documentation: str = field(default="help", metadata={"among": DOCUMENTATION_KINDS})
    files: tuple[Fixture, ...] = ()
    verbs: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "provider") -> Self:
        """Read a provider."""
        r = Reader(data, source, at)
        return r.record(cls, files=_fixtures(r, "files"))


@dataclass(frozen=True)
class Directive:
    """One piece of work, in words."""

    id: str = field(metadata={"default": ""})
    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "directives") -> Self:
        """Read a directive; a bare string is its text."""
        if isinstance(data, str) and not isinstance(decoded(data), Mapping):
            return cls(id="", text=data)
        return Reader(data, source, at).record(cls)


@dataclass(frozen=True)
class Checker:
    """Decides from a world's state whether the work is done: exit status 0 is yes.

    Args:
        script: the program's text, run as root in `workdir` after the session has ended.
        interpreter: what runs it.
        probe: sh that runs in the session's world, as its user and in `workdir`, when the session's shell has ended and
            what it left running has not; the checker finds what it printed in ``/run/probe``. It asks the living: a
            process's answer to a number that the session could not know.
        trial: sh that runs once the session and all its processes are gone, as the session's user in a sandbox of its
            own, over the same files; the checker finds what it printed in ``/run/trial``. It tries what was made.
    """

    script: str
    interpreter: str = "/bin/sh"
    probe: str = field(default="", metadata={"seldom": True})
    trial: str = field(default="", metadata={"seldom": True})
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "checker") -> Self:
        """Read a checker; a bare string is its script."""
        if isinstance(data, str) and not isinstance(decoded(data), Mapping):
            data = {"script": data}
        if data is None:
            remedy = "A scenario without a checker cannot be verified: add one whose exit status 0 means done."
            raise SchemaError(source, at, "nothing", "an object with 'script', or the script as a string", remedy)
        r = Reader(data, source, at)
        out = r.record(cls)
        if not out.script.strip():
            raise r.refuse("script", "a non-empty script")
        if not _INTERPRETER.fullmatch(out.interpreter):
            raise r.refuse("interpreter", "the absolute path of a program, with plain options")
        return out


def _fixtures(r: Reader, name: str) -> tuple[Fixture, ...]:
    """Read a list of fixtures, or an object of path to content."""
    value = decoded(r.data.get(name))
    if isinstance(value, Mapping):
        r.seen.add(name)
        value = [{"path": path, "content": content} for path, content in value.items() if content is not None]
        return tuple(Fixture.from_json(v, r.source, f"{r.path(name)}[{v['path']!r}]") for v in value)
    return tuple(Fixture.from_json(v, r.source, f"{r.path(name)}[{i}]") for i, v in enumerate(r.items(name)))


@dataclass(frozen=True)
class Scenario:
    """One world: what it starts with, where its directives are announced, and how their fulfilment is checked.

    Args:
        id: unique in a data set.
        version: version of the generator that made it.
        archetype: which kind of work; holdout is by archetype.
        terminal: the right ending, ``exit`` or ``panic``.
        split: ``train`` or ``holdout``.
        environment: environment variables of the session.
        workdir: absolute path where the session starts.
        generator_model: who authored it.
        provider: the program that hands out directives.
        announcement: where the world says so.
        directives: the work in words.
        fixtures: files the world starts with.
        checker: judges the world's state after the session.
        reference_solution: commands that do the work, without discovery and ending.
        quarantine: why the scenario is not to be used, empty when it is fine.
        extra: keys of the file that this version does not know.
    """

    id: str
    version: str = field(metadata={"default": SCHEMA_VERSION})
    archetype: str
    terminal: Terminal = field(metadata={"among": TERMINALS})
    split: Split = field(metadata={"among": SPLITS, "default": "train"})
    environment: Mapping[str, str]
    workdir: str = field(metadata={"default": "/work"})
    generator_model: str = field(metadata={"default": ""})
    provider: Provider
    announcement: Announcement
    directives: tuple[Directive, ...]
    fixtures: tuple[Fixture, ...]
    checker: Checker
    reference_solution: tuple[str, ...]
    quarantine: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>") -> Self:
        """Read a scenario from a decoded JSON object.

        Args:
            data: the object; each nested field may be an object or a JSON string.
            source: file and line, for messages.

        Raises:
            SchemaError: a field is missing or has a shape that no world can be made of.
        """
        if is_session(data):
            remedy = "Give the folder that `posix-sdc generate` wrote."
            raise SchemaError(source, "", "a recorded session (turns)", "a scenario", remedy)
        r = Reader(data, source)
        quarantine = r.raw("quarantine")
        out = r.record(
            cls,
            environment=_variables(r),
            provider=Provider.from_json(r.raw("provider"), source),
            announcement=Announcement.from_json(r.raw("announcement"), source),
            directives=tuple(
                Directive.from_json(v, source, f"directives[{i}]") for i, v in enumerate(r.items("directives"))
            ),
            fixtures=_fixtures(r, "fixtures"),
            checker=Checker.from_json(r.raw("checker"), source),
            quarantine=quarantine if isinstance(quarantine, str) else "quarantined" if quarantine is True else "",
        )
        if not out.workdir.startswith("/") or ".." in out.workdir.split("/"):
            raise r.refuse("workdir", "an absolute path without '..'")
        return out

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, fields in the published order, unknown keys last."""
        out: dict[str, Any] = plain(self)
        return out


def _variables(r: Reader) -> dict[str, str]:
    """Read the environment: an object of variables, or an object that holds one under ``variables`` or ``env``."""
    outer = Reader(r.raw("environment") or {}, r.source, "environment")
    for name in ("variables", "env"):
        if isinstance(decoded(outer.data.get(name)), Mapping):
            return outer.mapping(name)
    return r.mapping("environment")


# ------------------------------------------------------------------------------------------------------ trajectory


@dataclass(frozen=True)
class Turn:
    """One message of a session.

    Args:
        role: ``system``, ``user`` (the environment) or ``assistant`` (the operator).
        content: its text.
        train: an assistant turn is a target of training; False for a mistake, which stays in the session as context.
            Written to disk only where it is False. True for every other role.
    """

    role: str
    content: str
    train: bool = field(default=True, metadata={"seldom": True})


@dataclass(frozen=True)
class Trajectory:
    """One recorded session.

    Args:
        id: unique in a data set.
        scenario_id: the scenario it was played in.
        version: version of the generator that made the scenario.
        archetype: the scenario's archetype.
        terminal: the scenario's right ending.
        split: the scenario's split.
        verified: the checker passed on the world's final state.
        outcome: why it is kept or not (see `rollout.OUTCOMES`).
        operator_model: who acted.
        keep: correct terminal and verified and clean.
        steps: number of commands.
        meta: ``clean`` (every turn was a command) and whatever else the recorder knew; any key may be absent.
        turns: the session.
        extra: keys of the file that this version does not know.
    """

    id: str = field(metadata={"default": ""})
    scenario_id: str = field(metadata={"default": ""})
    version: str = field(metadata={"default": ""})
    archetype: str = field(metadata={"default": ""})
    terminal: str = field(metadata={"default": ""})
    split: str = field(metadata={"default": "train"})
    verified: bool
    outcome: str = field(metadata={"default": ""})
    operator_model: str = field(metadata={"default": ""})
    keep: bool
    steps: int
    meta: Mapping[str, Any]
    turns: tuple[Turn, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>") -> Self:
        """Read a trajectory from a decoded JSON object; ``messages`` is a synonym of ``turns``.

        An assistant turn with ``train`` false or ``weight`` 0 is context and no target of training.

        Args:
            data: the object; nested fields may be JSON strings.
            source: file and line, for messages.

        Raises:
            SchemaError: a field has a shape that is no session.
        """
        if isinstance(data, Mapping) and not is_session(data) and "checker" in data:
            remedy = "Give the folder that `posix-sdc rollout` wrote."
            raise SchemaError(source, "", "a scenario (checker)", "a recorded session", remedy)
        r = Reader(data, source)
        name = "turns" if r.data.get("turns") is not None or r.data.get("messages") is None else "messages"
        turns = tuple(_turn(v, source, f"{name}[{i}]") for i, v in enumerate(r.items(name)))
        r.seen |= {"turns", "messages"}
        if not turns:
            raise r.refuse(name, "a non-empty list of {role, content}")
        meta = Reader(r.raw("meta") or {}, source, "meta").data
        steps = r.raw("steps")
        verified = r.flag("verified", default=False)
        if "keep" not in r.data and "outcome" not in r.data and "verified" not in r.data:
            # A bare chat ({"messages": [...]}): somebody curated it, nothing says it was rejected.
            keep, verified = True, True
        else:
            # Columns of a table are there for every row, so a key that a record lacks is null.
            clean = meta.get("clean") in (None, True)
            keep = r.flag("keep", default=verified and clean and not _ends_wrong(turns, r.text("terminal", "")))
        r.seen.add("keep")
        return r.record(
            cls,
            verified=verified,
            keep=keep,
            steps=steps if isinstance(steps, int) else sum(t.role == "assistant" for t in turns),
            meta=dict(meta),
            turns=turns,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, unknown keys last."""
        out: dict[str, Any] = plain(self)
        return out


def _ends_wrong(turns: Sequence[Turn], terminal: str) -> bool:
    """Return whether a session ended in another way than its scenario asks for."""
    word = next(iter(turns[-1].content.split(maxsplit=1)), "")
    return terminal in TERMINALS and word in TERMINALS and word != terminal


def _turn(data: object, source: str, at: str) -> Turn:
    r = Reader(data, source, at)
    role = r.text("role")
    if role not in ROLES:
        raise r.refuse("role", "one of " + ", ".join(repr(x) for x in ROLES))
    content = r.raw("content")
    if isinstance(content, list | tuple) and all(_is_text_part(part) for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise r.refuse("content", "a string, or a list of text parts")
    # `weight` is what chat formats of OpenAI and Mistral call the same flag.
    flags = {name: _trained(r, name) for name in ("train", "weight") if r.data.get(name) is not None}
    if len(set(flags.values())) > 1:
        raise r.refuse("weight", f"the same as train, which is {r.data['train']!r}", "Leave one of the two out.")
    return Turn(role, content, role != "assistant" or all(flags.values()))


def _is_text_part(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _trained(r: Reader, name: str) -> bool:
    value = r.raw(name)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise r.refuse(name, "true or false" if name == "train" else "0 or 1")


# --------------------------------------------------------------------------------------------------------- loading


def load_scenarios(path: str | Path) -> list[Scenario]:
    """Read scenario bundles.

    Args:
        path: a folder of ``*.json`` (one bundle each), one such file, a ``*.jsonl``, a parquet file, or a data set
            folder (``scenarios/*.parquet``).

    Returns:
        The scenarios, in the order of their file names.

    Raises:
        SchemaError: the path is missing or empty, or a record in it cannot be taken.
    """
    scenarios = [Scenario.from_json(data, source) for source, data in records(Path(path), SCENARIOS)]
    seen: dict[str, int] = {}
    for s in scenarios:
        seen[s.id] = seen.get(s.id, 0) + 1
    twice = [i for i, n in seen.items() if n > 1]
    if twice:
        raise SchemaError(str(path), "id", f"{twice[0]!r} {seen[twice[0]]} times", "each id once", "Remove the copies.")
    return scenarios


def load_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Read trajectories one by one, in flat memory.

    Args:
        path: a folder of raw ``*.json`` (one session each), a ``*.jsonl``, a parquet file, or a data set folder
            (``trajectories/*.parquet``).

    Yields:
        Every trajectory, kept or not.

    Raises:
        SchemaError: the path is missing or empty, or a record in it cannot be taken.
    """
    for source, data in records(Path(path), TRAJECTORIES):
        yield Trajectory.from_json(data, source)


def is_session(data: object) -> bool:
    """Return whether a decoded record is a trajectory rather than a scenario."""
    return isinstance(data, Mapping) and (data.get("turns") is not None or data.get("messages") is not None)


def quarantined(scenario: Scenario, reason: str) -> Scenario:
    """Return the scenario marked as not to be used."""
    return replace(scenario, quarantine=reason)
