"""Settings of the commands: frozen records whose fields make the flags, the YAML keys and the help.

Home-made over argparse: tyro takes 0.25 s for a --help of this size, answers a typo with a box of ten lines, and leaves
YAML, ranges and presets to its caller; jsonargparse and pydantic-settings show the same in longer messages.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
from dataclasses import MISSING, dataclass
from importlib import metadata, resources
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import DataclassInstance

T = TypeVar("T")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
EXIT_CODES = "Exit codes: 0 done, 1 the run failed, 2 bad usage or input, 130 interrupted."


def setting(  # noqa: PLR0913 - a field's whole description stands in one place
    text: str,
    *,
    default: Any = MISSING,
    group: str = "",
    flag: str = "",
    also: tuple[str, ...] = (),
    metavar: str | None = None,
    choices: tuple[str, ...] = (),
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    plan: bool = False,
    bare: str | None = None,
) -> Any:
    """Describe a field of a record of settings.

    Args:
        text: The help.
        default: The value where none is given; a setting without one is required.
        group: Title of the group of flags that begins with this one.
        flag: The flag, where it is not the field's name.
        also: Further names of the flag.
        metavar: What stands for the value in the help.
        choices: The values that are taken.
        above: A number must be greater.
        at_least: A number must be this or greater.
        below: A number must be less.
        plan: It decides which adapter comes out; a resumed run must agree in it.
        bare: The value that the flag has where none follows it.

    Returns:
        A dataclass field.
    """
    return dataclasses.field(metadata=locals(), default=default)


@dataclass(frozen=True)
class Setting:
    """A field of a record, as flag and YAML key.

    Args:
        name: The field's name.
        kind: Type of one value.
        many: It takes several values (the flag is repeatable).
        default: Its default; `MISSING` where it is required.
        about: What `setting` was given.
    """

    name: str
    kind: type
    many: bool
    default: Any
    about: Mapping[str, Any]

    @property
    def flag(self) -> str:
        """Such as ``--max-steps``."""
        return str(self.about["flag"] or flag_of(self.name))

    @property
    def flags(self) -> tuple[str, ...]:
        """All its names, short ones first."""
        return (*self.about["also"], self.flag)

    def read(self, value: Any, where: str) -> Any:
        """Bring a value from the command line or from YAML to the setting's type.

        Args:
            value: Text, or what YAML has.
            where: Flag or file and field, to begin a message with.

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
        if expected := self._misfit(found):
            raise UsageError(f"{where}: found {value}, expected {expected}.")
        return found

    def _misfit(self, value: Any) -> str:
        """Say what is expected where a value does not fit; empty where it does."""
        choices, above, at_least, below = (self.about[k] for k in ("choices", "above", "at_least", "below"))
        if choices and value not in choices:
            return f"one of {', '.join(choices)}"
        limits = [
            (above is None or value > above, f"above {above}" * (above is not None)),
            (at_least is None or value >= at_least, f"{at_least} or more" * (at_least is not None)),
            (below is None or value < below, f"below {below}" * (below is not None)),
        ]
        words = " and ".join(word for _, word in limits if word)
        return f"a number {words}" if words and not (all(holds for holds, _ in limits) and value < float("inf")) else ""


def settings_of(record: type[DataclassInstance]) -> list[Setting]:
    """Return the settings that a dataclass's fields describe; a field without `setting` is another record's."""
    hints = get_type_hints(record)
    found = []
    for field in dataclasses.fields(record):
        if "text" in field.metadata:
            kind, many = _kind(hints[field.name])
            found.append(Setting(field.name, kind, many, field.default, field.metadata))
    return found


def _kind(hint: Any) -> tuple[type, bool]:
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return next((kind for kind in get_args(hint) if kind is not NoneType), hint), False


class Settings:
    """What flags, file and defaults say together. `of` makes a record of it."""

    def __init__(self, values: Mapping[str, Any], prog: str) -> None:
        self._values, self._prog = values, prog

    def of(self, record: type[T]) -> T:
        """Make a record, a dataclass whose fields are looked up by name.

        Raises:
            UsageError: A required setting was not given.
        """
        values = {}
        for field in dataclasses.fields(record):  # type: ignore[arg-type]
            if field.name in self._values:
                values[field.name] = self._values[field.name]
            elif field.default is MISSING and field.default_factory is MISSING:
                flag = field.metadata.get("flag") or flag_of(field.name)
                about = field.metadata.get("text", "it has no default")
                raise UsageError(f"{flag} is missing ({about}). See {self._prog} --help.")
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
        argv: The arguments, without the program's name.
        records: Dataclasses whose fields are made by `setting`; one has the fields ``config`` and ``verbose``.
        prog: The command's name in messages.
        about: What the command does, for its help.
        settled: Values that the caller has settled (a resident's base). A flag of another value is refused, "auto"
            means them; what a file says of them, such as a preset of its base, is left out.

    Raises:
        UsageError: A flag, the file or a value cannot be used, or contradicts what is settled.
        SystemExit: After ``--help`` and ``--version``.
    """
    known = [s for record in records for s in settings_of(record)]
    given = _flags(argv, known, prog, about)
    config = given.get("config")
    values = (_file(config, known, prog) if config is not None else {}) | given
    for name, value in (settled or {}).items():
        if name in given and given[name] != "auto" and not _same(given[name], value):
            flag, has = flag_of(name), value if not isinstance(value, bool) else "it" if value else "none"
            found = flag if isinstance(value, bool) else f"{flag} {given[name]}"
            raise UsageError(f"{found}: the loaded base has {has}. Leave the flag out.")
    defaults = {s.name: s.default for s in known if s.default is not MISSING}
    return Settings({**defaults, **values, **(settled or {})}, prog)


def _same(given: Any, settled: Any) -> bool:
    """Compare a value with a settled one; paths are the same where they name one place."""
    if isinstance(given, Path) and isinstance(settled, Path):
        return given.expanduser().resolve() == settled.expanduser().resolve()
    return bool(given == settled)


class _Parser(argparse.ArgumentParser):
    """Raises what argparse prints with thirty lines of usage."""

    def error(self, message: str) -> Any:
        """Raise argparse's message in one line."""
        raise UsageError(f"{message.removeprefix('argument ')}. See {self.prog} --help.")


def _parser(known: Sequence[Setting], prog: str, about: str) -> argparse.ArgumentParser:
    """Return the parser of some settings, in the order of the help; it keeps values as they were written."""
    parser = _Parser(prog=prog, usage=f"{prog} [flags]", description=about, epilog=EXIT_CODES, allow_abbrev=False)
    version = f"{prog} {metadata.version('tiararodney.sekft')}"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    group: Any = parser
    for s in known:
        if s.about["group"]:
            group = parser.add_argument_group(s.about["group"])
        options: dict[str, Any] = {"dest": s.name, "default": argparse.SUPPRESS, "help": _help(s)}
        if s.kind is bool:
            group.add_argument(*s.flags, action="store_const", const=True, **options)
            # what a file sets has to be unset by a flag
            options["help"] = argparse.SUPPRESS
            group.add_argument("--no-" + s.flag.removeprefix("--"), action="store_const", const=False, **options)
        elif "-v" in s.flags:
            group.add_argument(*s.flags, action="count", **options)
        else:
            choices = "{" + ",".join(s.about["choices"]) + "}" if s.about["choices"] else None
            metavar = s.about["metavar"] or choices or {int: "N", float: "X", Path: "PATH"}.get(s.kind, "NAME")
            if s.about["bare"] is not None:
                options |= {"nargs": "?", "const": s.about["bare"]}
            group.add_argument(*s.flags, action="append" if s.many else "store", metavar=metavar, **options)
    return parser


def _help(s: Setting) -> str:
    shown = isinstance(s.default, str | int | float) and not isinstance(s.default, bool) and "-v" not in s.flags
    notes = ["repeatable"] * s.many + [f"default: {s.default}"] * shown
    return (str(s.about["text"]) + (f" ({'; '.join(notes)})" if notes else "")).replace("%", "%%")


def _flags(argv: Sequence[str], known: Sequence[Setting], prog: str, about: str) -> dict[str, Any]:
    """Read the flags that were given, in dashes or underscores."""
    parser = _parser(known, prog, about)
    names = {flag for s in known for flag in s.flags}
    found, unknown = parser.parse_known_args([_dashes(word) for word in argv])
    if unknown:
        word = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        raise UsageError(f"{word}: no such flag{_suggestion(word, names)}. See {prog} --help.")
    by_name = {s.name: s for s in known}
    return {name: by_name[name].read(value, by_name[name].flag) for name, value in vars(found).items()}


def _dashes(word: str) -> str:
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else word


def _suggestion(word: str, names: Sequence[str] | set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(names), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _file(config: str, known: Sequence[Setting], prog: str) -> dict[str, Any]:
    """Read a YAML file of settings; keys are flags in dashes or underscores, without the leading dashes."""
    import yaml

    where = f"--config {config}"
    try:
        data = yaml.safe_load(_text(config)) or {}
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
            close = _suggestion(name, set(keys))
            raise UsageError(f"{where}: field {key!r}: no such setting of {prog}{close}. See {prog} --help.")
        values[keys[name].name] = keys[name].read(value, f"{where}: field {key!r}")
    return values


def _text(config: str) -> str:
    """Return the text of a file, or of the preset of that name."""
    file = Path(config)
    if not file.exists() and file.name == config and not file.suffix:
        presets = {entry.name.removesuffix(".yaml"): entry for entry in preset_folder().iterdir()}
        if config not in presets:
            close = _suggestion(config, set(presets))
            raise UsageError(
                f"--config {config}: no such file or preset{close}. Presets: {', '.join(sorted(presets))}."
            )
        return str(presets[config].read_text(encoding="utf-8"))
    return file.read_text(encoding="utf-8")


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
