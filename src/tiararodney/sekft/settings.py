"""How a command's settings are read: flags above ``--config FILE.yaml``, above what a caller has settled."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import DataclassInstance

UNSET = (None, False, "auto")
DTYPES = ("auto", "bfloat16", "bf16", "float16", "fp16", "float32", "fp32")
DTYPE_HELP = "compute type; auto is bf16 where the device is fast in it, else fp32"


def flag_of(name: str) -> str:
    """The flag of a setting.

    Args:
        name: The setting's name, as in the record.

    Returns:
        The flag, such as ``--max-steps``.
    """
    return "--" + name.replace("_", "-")


def to_json(config: DataclassInstance) -> dict[str, Any]:
    """Return a record of settings as JSON values.

    Args:
        config: A dataclass of plain values, paths, and tuples of them.

    Returns:
        Field name to value.
    """
    return {key: _plain(value) for key, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def add_common_flags(parser: argparse.ArgumentParser, verbose: str) -> None:
    """Add the flags that every command has: ``--config``, ``-v``, ``-q``.

    Args:
        parser: The command's.
        verbose: What ``-v`` shows.
    """
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="defaults for these flags, keys of the same name"
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help=verbose)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def parse_flags(
    parser: argparse.ArgumentParser, argv: Sequence[str], settled: Mapping[str, Any] | None = None
) -> argparse.Namespace:
    """Read flags, and under them the file that ``--config`` names.

    Args:
        parser: Has a flag ``--config``.
        argv: The arguments, without the program's name.
        settled: Values that the caller has settled (a resident's base); another value of the flag is refused.

    Returns:
        What was parsed. A flag that may be given again replaces the file's list, it does not add to it.

    Raises:
        UsageError: The file cannot be used, or a flag contradicts what is settled.
        SystemExit: argparse's own, for ``--help`` and unknown flags.
    """
    args = parser.parse_args(list(argv))
    if args.config is not None:
        given = {dest for dest, value in vars(args).items() if isinstance(value, list)}
        values = {dest: value for dest, value in _read_file(args.config, parser).items() if dest not in given}
        parser.set_defaults(**values)
        args = parser.parse_args(list(argv))
    for name, value in (settled or {}).items():
        found = getattr(args, name)
        if found not in (*UNSET, value):
            raise UsageError(f"{flag_of(name)}: found {found}, but here it is {value}. Leave the flag out.")
        setattr(args, name, value)
    return args


def _read_file(file: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read a YAML file of flags; keys may be written with - or _, and mean what the flag means."""
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UsageError(f"--config {file}: {error.strerror}. Give a readable YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = str(error).splitlines()[0]
        raise UsageError(f"--config {file}: no YAML ({found}). Write lines such as 'seed: 1'.") from None
    if not isinstance(data, dict):
        raise UsageError(f"--config {file}: found a {type(data).__name__}, expected lines such as 'seed: 1'.")
    actions = {name.lstrip("-"): action for action in parser._actions for name in action.option_strings}  # noqa: SLF001 - argparse has no public list
    values = {}
    for key, value in data.items():
        action = actions.get(str(key).replace("_", "-"))
        if action is None or action.dest in ("help", "config"):
            raise UsageError(f"--config {file}: field {key!r} is no flag of {parser.prog}. See {parser.prog} --help.")
        values[action.dest] = _typed(action, value, f"--config {file}: field {key!r}")
    return values


def _typed(action: argparse.Action, value: Any, where: str) -> Any:
    """Bring a YAML value to the type that the flag has."""
    if action.nargs == 0 and isinstance(action.const, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{where}: found {value!r}, expected true or false.")
        return value
    kind: Any = action.type or (int if action.nargs == 0 else str)
    many = isinstance(action, argparse._AppendAction)  # noqa: SLF001 - argparse has no public name for it
    items = value if many and isinstance(value, list) else [value]
    if any(isinstance(item, list | dict | bool) or item is None for item in items):
        raise UsageError(f"{where}: found {value!r}, expected {'a list of values' if many else 'one value'}.")
    try:
        # a text as on the command line: int() alone would cut 2.5 to 2
        typed = [kind(str(item)) for item in items]
    except (TypeError, ValueError):
        raise UsageError(f"{where}: found {value!r}, expected {getattr(kind, '__name__', 'a value')}.") from None
    if action.choices is not None and any(item not in action.choices for item in typed):
        raise UsageError(f"{where}: found {value!r}, expected one of {', '.join(map(str, action.choices))}.")
    return typed if many else typed[0]
