"""Settings of the commands: frozen records whose fields make the flags, the YAML keys and the help.

Home-made over argparse: tyro takes 0.25 s for a --help of this size, answers a typo with a box of ten lines, and leaves
YAML, ranges and presets to its caller; jsonargparse and pydantic-settings show the same in longer messages.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import operator
from dataclasses import MISSING, dataclass
from importlib import metadata, resources
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from _typeshed import DataclassInstance

T = TypeVar("T")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
LIMITS = {
    "above": ("above {}", operator.gt),
    "at_least": ("{} or more", operator.ge),
    "below": ("below {}", operator.lt),
}
EXIT_CODES = "Exit codes: 0 done, 1 the run failed, 2 bad usage or input, 130 interrupted."


@dataclass(frozen=True)
class Setting:
    """A field of a record, as flag and YAML key.

    Args:
        text: The help.
        default: The value where none is given; a setting without one is required.
        group: Title of the group of flags that begins with this one.
        flag: Such as ``--max-steps``; where it is not given, the field's name makes it.
        also: Further names of the flag, short ones.
        metavar: What stands for the value in the help.
        choices: The values that are taken.
        above: A number must be greater.
        at_least: A number must be this or greater.
        below: A number must be less.
        plan: It decides which adapter comes out; a resumed run must agree in it.
        bare: The value that the flag has where none follows it.
        name: The field's name.
        kind: Type of one value, as the field's annotation says.
        many: It takes several values (the flag is repeatable).
    """

    text: str
    default: Any = MISSING
    group: str = ""
    flag: str = ""
    also: tuple[str, ...] = ()
    metavar: str = ""
    choices: tuple[str, ...] = ()
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    plan: bool = False
    bare: str | None = None
    name: str = ""
    kind: type = str
    many: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """All its names, short ones first."""
        return (*self.also, self.flag)

    def read(self, value: Any, where: str) -> Any:
        """Bring a value (text, or what YAML has) to the setting's type; `where` begins a message.

        Raises:
            UsageError: It has another type or is out of range.
        """
        if not self.many:
            return self._one(value, where)
        return tuple(self._one(item, where) for item in (value if isinstance(value, list | tuple) else [value]))

    def _one(self, value: Any, where: str) -> Any:
        fits = isinstance(value, bool) == (self.kind is bool) and not isinstance(value, list | dict | NoneType)
        try:
            # from text, as on the command line: int() would cut 2.5 to 2
            found = value if self.kind is bool else self.kind(str(value))
        except ValueError:
            fits = False
        if not fits:
            raise UsageError(f"{where}: found {value!r}, expected {KINDS[self.kind]}.")
        if self.choices and found not in self.choices:
            raise UsageError(f"{where}: found {value}, expected one of {', '.join(self.choices)}.")
        limits = {}
        for name, (words, compare) in LIMITS.items():
            if (limit := getattr(self, name)) is not None:
                limits[words.format(limit)] = compare(found, limit)
        if limits and not (all(limits.values()) and found < float("inf")):
            raise UsageError(f"{where}: found {value}, expected a number {' and '.join(limits)}.")
        return found


def setting(text: str, *, default: Any = MISSING, **about: Any) -> Any:
    """Return a dataclass field that is a setting; what it takes are the arguments of `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(text, default, **about)})


def settings_of(record: type[DataclassInstance]) -> list[Setting]:
    """Return the settings that a dataclass's fields describe; a field without `setting` is another record's."""
    hints = get_type_hints(record)
    found = []
    for field in dataclasses.fields(record):
        if (about := field.metadata.get("setting")) is not None:
            hint, many = hints[field.name], get_origin(hints[field.name]) is tuple
            # of X | None and of tuple[X, ...] the X
            kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
            flag = about.flag or flag_of(field.name)
            found.append(dataclasses.replace(about, name=field.name, flag=flag, kind=kind, many=many))
    return found


@dataclass(frozen=True)
class Settings:
    """What the flags and the file of a command (`prog`) say together. `of` makes a record of it."""

    values: Mapping[str, Any]
    prog: str

    def of(self, record: type[T]) -> T:
        """Make a record, a dataclass whose fields are looked up by name.

        Raises:
            UsageError: A required setting was not given.
        """
        values = {}
        for field in dataclasses.fields(record):  # type: ignore[arg-type]
            if field.name in self.values:
                values[field.name] = self.values[field.name]
            elif field.default is MISSING:
                about = f" ({field.metadata['setting'].text})" if field.metadata else ""
                raise UsageError(f"{flag_of(field.name)} is missing{about}. See {self.prog} --help.")
        return record(**values)


def read_settings(
    argv: Sequence[str],
    records: Sequence[type[DataclassInstance]],
    prog: str,
    about: str,
    *,
    settled: Mapping[str, Any] | None = None,
) -> Settings:
    """Read flags, and under them the file or preset that ``--config`` names.

    Args:
        argv: The arguments, without the program's name; flags in dashes or underscores.
        records: Dataclasses whose fields are made by `setting`; one has the field ``config``.
        prog: The command's name in messages.
        about: What the command does, for its help.
        settled: Values that the caller has settled (a resident's base). A flag of another value is refused, "auto"
            means them; what a file says of them, such as a preset of its base, is left out.

    Raises:
        UsageError: A flag, the file or a value cannot be used, or contradicts what is settled.
        SystemExit: After ``--help`` and ``--version``.
    """
    known = {s.name: s for record in records for s in settings_of(record)}
    words = [word.partition("=") for word in argv]
    dashed = [(w.replace("_", "-") if w.startswith("--") else w) + equals + value for w, equals, value in words]
    found, unknown = _parser(known.values(), prog, about).parse_known_args(dashed)
    if unknown:
        word = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        close = _suggestion(word, {flag for s in known.values() for flag in s.flags})
        raise UsageError(f"{word}: no such flag{close}. See {prog} --help.")
    given = {name: known[name].read(value, known[name].flag) for name, value in vars(found).items()}
    for name, value in (settled or {}).items():
        if name in given and given[name] != "auto" and _place(given[name]) != _place(value):
            flag, has = flag_of(name), value if not isinstance(value, bool) else "it" if value else "none"
            asked = flag if isinstance(value, bool) else f"{flag} {given[name]}"
            raise UsageError(f"{asked}: the loaded base has {has}. Leave the flag out.")
    in_file = _file(given["config"], known.values(), prog) if "config" in given else {}
    return Settings({**in_file, **given, **(settled or {})}, prog)


def _place(value: Any) -> Any:
    """Return a path as the place that it names, anything else as it is."""
    return value.expanduser().resolve() if isinstance(value, Path) else value


class _Parser(argparse.ArgumentParser):
    """Raises what argparse prints with thirty lines of usage."""

    def error(self, message: str) -> Any:
        """Raise argparse's message in one line."""
        raise UsageError(f"{message.removeprefix('argument ')}. See {self.prog} --help.")


def _parser(known: Iterable[Setting], prog: str, about: str) -> argparse.ArgumentParser:
    """Return the parser of some settings, in the order of the help; it keeps values as they were written."""
    parser = _Parser(prog=prog, usage=f"{prog} [flags]", description=about, epilog=EXIT_CODES, allow_abbrev=False)
    version = f"{prog} {metadata.version('tiararodney.sekft')}"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    group: Any = parser
    for s in known:
        if s.group:
            group = parser.add_argument_group(s.group)
        shown = isinstance(s.default, str | int | float) and s.kind is not bool
        notes = ["repeatable"] * s.many + [f"default: {s.default}"] * shown
        text = (s.text + (f" ({'; '.join(notes)})" if notes else "")).replace("%", "%%")
        options: dict[str, Any] = {"dest": s.name, "default": argparse.SUPPRESS, "help": text}
        if s.kind is bool:
            group.add_argument(*s.flags, action="store_const", const=True, **options)
            # what a file sets has to be unset by a flag
            options["help"] = argparse.SUPPRESS
            group.add_argument("--no-" + s.flag.removeprefix("--"), action="store_const", const=False, **options)
            continue
        if s.bare is not None:
            options |= {"nargs": "?", "const": s.bare}
        choices = "{" + ",".join(s.choices) + "}" if s.choices else ""
        metavar = s.metavar or choices or {int: "N", float: "X", Path: "PATH"}.get(s.kind, "NAME")
        group.add_argument(*s.flags, action="append" if s.many else "store", metavar=metavar, **options)
    return parser


def _suggestion(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, sorted(names), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _file(config: str, known: Iterable[Setting], prog: str) -> dict[str, Any]:
    """Read a YAML file or preset of settings; keys are flags in dashes or underscores, without the leading dashes."""
    import yaml

    where, file = f"--config {config}", Path(config)
    presets = {entry.name.removesuffix(".yaml"): entry for entry in preset_folder().iterdir()}
    try:
        source: Any = file if file.exists() else presets.get(config)
        if source is None:
            close = _suggestion(config, presets)
            raise UsageError(f"{where}: no such file or preset{close}. Presets: {', '.join(sorted(presets))}.")
        data = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}. Give a readable YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = str(error).splitlines()[0]
        raise UsageError(f"{where}: not YAML ({found}). Write lines such as 'seed: 1'.") from None
    if not isinstance(data, dict):
        raise UsageError(f"{where}: found a {type(data).__name__}, expected lines such as 'seed: 1'.")
    keys = {flag.removeprefix("--"): s for s in known if s.name != "config" for flag in s.flags}
    values = {}
    for key, value in data.items():
        name = str(key).replace("_", "-")
        if name not in keys:
            close = _suggestion(name, keys)
            raise UsageError(f"{where}: field {key!r}: no such setting of {prog}{close}. See {prog} --help.")
        values[keys[name].name] = keys[name].read(value, f"{where}: field {key!r}")
    return values


def preset_folder() -> Any:
    """Return the folder of the presets that the package ships."""
    return resources.files("tiararodney.sekft") / "presets"


def flag_of(name: str) -> str:
    """Return the flag of a setting, such as ``--max-steps`` of ``max_steps``."""
    return "--" + name.replace("_", "-")


def to_json(config: DataclassInstance) -> dict[str, Any]:
    """Return a record of settings (plain values, paths, and tuples of them) as JSON values, by field."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return values
