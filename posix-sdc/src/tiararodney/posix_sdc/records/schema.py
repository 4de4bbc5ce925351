"""The two records on disk, `Scenario` and `Trajectory`: frozen, JSON in and out.

Field names and their order are those of the published data set. Its nested shapes are not public, so a reader
takes an object or a JSON string for each nested field, keeps keys it does not know (in `extra`, written out again),
and refuses a shape that no world can be made of, naming file, field, what was found and what is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.records.files import SCENARIOS, TRAJECTORIES, records

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

_SHOWN = 60
_INTERPRETER = re.compile(r"/[A-Za-z0-9_.+/-]+( [A-Za-z0-9_.+/=,:-]+)*")
_LAST_SECOND = 2**33  # what every tar can say of a time


# --------------------------------------------------------------------------------------------------------- reading


def _show(value: object) -> str:
    """Name a value's type and its beginning, for messages."""
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"


class Reader:
    """Takes typed fields out of one JSON object and remembers which keys it was asked for.

    Args:
        data: the decoded object, or a JSON string of one (the published parquet may hold either).
        source: file and line, for messages.
        at: dotted path of this object inside the record, empty for the record itself.
    """

    def __init__(self, data: object, source: str, at: str = "") -> None:
        data = decoded(data)
        if not isinstance(data, Mapping):
            raise SchemaError(source, at, _show(data), "a JSON object")
        self.data: Mapping[str, Any] = data
        self.source, self.at = source, at
        self.seen: set[str] = set()

    def path(self, name: str) -> str:
        """Return the dotted path of a field of this object."""
        return f"{self.at}.{name}" if self.at else name

    def refuse(self, name: str, expected: str, remedy: str = "") -> SchemaError:
        """Build the error for a field; the caller raises it."""
        return SchemaError(self.source, self.path(name), _show(self.data.get(name)), expected, remedy)

    def raw(self, name: str, *, synonyms: Sequence[str] = ()) -> object:
        """Return a field as it stands, None where it is absent."""
        for key in (name, *synonyms):
            self.seen.add(key)
            if self.data.get(key) is not None:
                return cast("object", self.data[key])
        return None

    def text(self, name: str, default: str | None = None, *, synonyms: Sequence[str] = ()) -> str:
        """Return a string field; numbers are taken as their text."""
        value = self.raw(name, synonyms=synonyms)
        if value is None and default is not None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.refuse(name, "a string")
        return value

    def choice(self, name: str, among: Sequence[str], default: str | None = None) -> str:
        """Return a string field that must be one of a closed set."""
        value = self.text(name, default)
        if value not in among:
            raise self.refuse(name, "one of " + ", ".join(repr(x) for x in among))
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean field."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def number(self, name: str, default: int, *, below: int) -> int:
        """Return a field that is a whole number of at least 0."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
            raise self.refuse(name, f"a whole number from 0 to {below - 1}")
        return value

    def items(self, name: str) -> list[object]:
        """Return a list field, empty where it is absent; a JSON string of a list is taken too."""
        value = decoded(self.raw(name))
        if value is None:
            return []
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise self.refuse(name, "a list")
        return list(value)

    def strings(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.items(name)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise SchemaError(self.source, f"{self.path(name)}[{i}]", _show(value), "a string")
        return tuple(cast("list[str]", values))

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object of strings, empty where it is absent."""
        value = decoded(self.raw(name))
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.refuse(name, "an object of strings")
        # Arrow structs hold every key any row has, with null where this row has none.
        return {str(k): str(v) for k, v in value.items() if v is not None}

    def rest(self) -> dict[str, Any]:
        """Return the keys nobody asked for."""
        return {k: v for k, v in self.data.items() if k not in self.seen and v is not None}


def decoded(value: object) -> object:
    """Decode a JSON string of an object or list; anything else is returned as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return cast("object", json.loads(value))
        except ValueError:
            return value
    return value


def _plain(value: Any) -> Any:
    """Turn records, tuples and mappings into what `json.dumps` takes, `extra` keys flattened in."""
    if hasattr(value, "__dataclass_fields__"):
        given = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "extra"}
        seldom = {f.name for f in fields(value) if f.metadata.get("seldom") and given[f.name] == f.default}
        out = {name: _plain(v) for name, v in given.items() if name not in seldom}
        return out | dict(getattr(value, "extra", {}))
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


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
    kind: str = "file"
    mode: str = ""
    owner: str = "user"
    target: str = ""
    mtime: int = field(default=0, metadata={"seldom": True})
    start: bool = field(default=False, metadata={"seldom": True})
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.mode:
            object.__setattr__(self, "mode", "755" if self.kind == "dir" else "644")

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "fixtures") -> Self:
        """Read one fixture."""
        r = Reader(data, source, at)
        kind = r.choice("kind", FIXTURE_KINDS, "file")
        mode = r.text("mode", "")
        if set(mode) - set("01234567"):
            raise r.refuse("mode", "octal digits such as '644'")
        path = r.text("path")
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise r.refuse("path", "an absolute path without '..'")
        start = r.flag("start", default=False)
        if start and (kind != "file" or not int(mode or "0", 8) & 0o1):
            raise r.refuse("start", "a file that everybody may execute (mode '755')")
        return cls(
            path=path,
            content=r.text("content", ""),
            kind=kind,
            mode=mode,
            owner=r.choice("owner", OWNERS, "user"),
            target=r.text("target", ""),
            mtime=r.number("mtime", 0, below=_LAST_SECOND),
            start=start,
            extra=r.rest(),
        )


@dataclass(frozen=True)
class Announcement:
    """Where and how a world says that directives exist.

    Args:
        kind: ``motd`` and ``banner`` are printed at login, ``env`` is an environment variable, ``file`` a file.
        text: what it says.
        variable: name of the variable, for ``env``.
        path: absolute path of the file, for ``file``.
    """

    kind: str
    text: str
    variable: str = ""
    path: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "announcement") -> Self:
        """Read an announcement."""
        r = Reader(data, source, at)
        kind = r.choice("kind", ANNOUNCEMENT_KINDS)
        out = cls(
            kind=kind,
            text=r.text("text"),
            variable=r.text("variable", ""),
            path=r.text("path", ""),
            extra=r.rest(),
        )
        if kind == "env" and not out.variable.isidentifier():
            raise r.refuse("variable", "the name of an environment variable, since announcement.kind is 'env'")
        if kind == "file" and not out.path.startswith("/"):
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
    documentation: str = "help"
    files: tuple[Fixture, ...] = ()
    verbs: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "provider") -> Self:
        """Read a provider."""
        r = Reader(data, source, at)
        return cls(
            name=r.text("name"),
            kind=r.text("kind", ""),
            documentation=r.choice("documentation", DOCUMENTATION_KINDS, "help"),
            files=_fixtures(r, "files"),
            verbs=r.mapping("verbs"),
            extra=r.rest(),
        )


@dataclass(frozen=True)
class Directive:
    """One piece of work, in words."""

    id: str
    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object, source: str = "<memory>", at: str = "directives") -> Self:
        """Read a directive; a bare string is its text."""
        if isinstance(data, str) and not isinstance(decoded(data), Mapping):
            return cls(id="", text=data)
        r = Reader(data, source, at)
        return cls(id=r.text("id", ""), text=r.text("text"), extra=r.rest())


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
        script = r.text("script")
        if not script.strip():
            raise r.refuse("script", "a non-empty script")
        interpreter = r.text("interpreter", "/bin/sh")
        if not _INTERPRETER.fullmatch(interpreter):
            raise r.refuse("interpreter", "the absolute path of a program, with plain options")
        return cls(
            script=script,
            interpreter=interpreter,
            probe=r.text("probe", ""),
            trial=r.text("trial", ""),
            extra=r.rest(),
        )


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
    version: str
    archetype: str
    terminal: Terminal
    split: Split
    environment: Mapping[str, str]
    workdir: str
    generator_model: str
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
        r = Reader(data, source)
        if isinstance(data, Mapping) and "provider" not in data and ("turns" in data or "messages" in data):
            remedy = "Give the folder that posix-sdc generate wrote."
            raise SchemaError(source, "", "a trajectory", "a scenario bundle", remedy)
        workdir = r.text("workdir", "/work")
        if not workdir.startswith("/") or ".." in workdir.split("/"):
            raise r.refuse("workdir", "an absolute path without '..'")
        quarantine = r.raw("quarantine")
        return cls(
            id=r.text("id"),
            version=r.text("version", SCHEMA_VERSION),
            archetype=r.text("archetype"),
            terminal=cast("Terminal", r.choice("terminal", TERMINALS)),
            split=cast("Split", r.choice("split", SPLITS, "train")),
            environment=_variables(r),
            workdir=workdir,
            generator_model=r.text("generator_model", ""),
            provider=Provider.from_json(r.raw("provider"), source),
            announcement=Announcement.from_json(r.raw("announcement"), source),
            directives=tuple(
                Directive.from_json(v, source, f"directives[{i}]") for i, v in enumerate(r.items("directives"))
            ),
            fixtures=_fixtures(r, "fixtures"),
            checker=Checker.from_json(r.raw("checker"), source),
            reference_solution=r.strings("reference_solution"),
            quarantine=quarantine if isinstance(quarantine, str) else ("quarantined" if quarantine is True else ""),
            extra=r.rest(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, fields in the published order, unknown keys last."""
        out: dict[str, Any] = _plain(self)
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

    id: str
    scenario_id: str
    version: str
    archetype: str
    terminal: str
    split: str
    verified: bool
    outcome: str
    operator_model: str
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
        r = Reader(data, source)
        name = "turns" if r.data.get("turns") is not None or r.data.get("messages") is None else "messages"
        turns = tuple(_turn(v, source, f"{name}[{i}]") for i, v in enumerate(r.items(name)))
        r.seen |= {"turns", "messages"}
        if not turns:
            raise r.refuse(name, "a non-empty list of {role, content}")
        meta = Reader(r.raw("meta") or {}, source, "meta").data
        steps = r.raw("steps")
        outcome, verified = r.text("outcome", ""), r.flag("verified", default=False)
        if "keep" not in r.data and "outcome" not in r.data and "verified" not in r.data:
            # A bare chat ({"messages": [...]}): somebody curated it, nothing says it was rejected.
            keep, verified = True, True
        else:
            # Columns of a table are there for every row, so a key that a record lacks is null.
            clean = meta.get("clean") in (None, True)
            keep = r.flag("keep", default=verified and clean and not _ends_wrong(turns, r.text("terminal", "")))
        r.seen.add("keep")
        return cls(
            id=r.text("id", ""),
            scenario_id=r.text("scenario_id", ""),
            version=r.text("version", ""),
            archetype=r.text("archetype", ""),
            terminal=r.text("terminal", ""),
            split=r.text("split", "train"),
            verified=verified,
            outcome=outcome,
            operator_model=r.text("operator_model", ""),
            keep=keep,
            steps=steps if isinstance(steps, int) else sum(t.role == "assistant" for t in turns),
            meta=dict(meta),
            turns=turns,
            extra=r.rest(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, unknown keys last."""
        out: dict[str, Any] = _plain(self)
        return out


def _ends_wrong(turns: Sequence[Turn], terminal: str) -> bool:
    """Tell whether a session ended in another way than its scenario asks for."""
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
    scenarios = [_scenario(data, source) for source, data in records(Path(path), SCENARIOS)]
    seen: dict[str, int] = {}
    for s in scenarios:
        seen[s.id] = seen.get(s.id, 0) + 1
    twice = [i for i, n in seen.items() if n > 1]
    if twice:
        raise SchemaError(str(path), "id", f"{twice[0]!r} {seen[twice[0]]} times", "each id once", "Remove the copies.")
    return scenarios


def _scenario(data: object, source: str) -> Scenario:
    if is_session(data):
        raise SchemaError(
            source, "", "a recorded session (turns)", "a scenario", "Give the folder that `posix-sdc generate` wrote."
        )
    return Scenario.from_json(data, source)


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
        if isinstance(data, Mapping) and not is_session(data) and "checker" in data:
            raise SchemaError(
                source,
                "",
                "a scenario (checker)",
                "a recorded session",
                "Give the folder that `posix-sdc rollout` wrote.",
            )
        yield Trajectory.from_json(data, source)


def is_session(data: object) -> bool:
    """Tell whether a decoded record is a trajectory rather than a scenario."""
    return isinstance(data, Mapping) and (data.get("turns") is not None or data.get("messages") is not None)


def quarantined(scenario: Scenario, reason: str) -> Scenario:
    """Return the scenario marked as not to be used."""
    return replace(scenario, quarantine=reason)
