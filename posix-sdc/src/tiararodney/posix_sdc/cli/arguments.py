"""The command ``posix-sdc``: flags, exit codes and signal handling."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tiararodney.posix_sdc.errors import PosixSdcError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

_DONE, _FAILED, _USAGE = 0, 1, 2
_BY_SIGNAL = 128
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; stdout carries results, stderr messages and progress.

    Returns:
        0 done, 1 the run failed, 2 bad usage or input, 128 + n when signal n ended it (130 for Ctrl-C).
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    code = _run(arguments)
    _close_worlds()
    return code


def _run(arguments: argparse.Namespace) -> int:
    # --help needs none of what the commands import.
    from tiararodney.posix_sdc.cli import commands

    command: Callable[[argparse.Namespace], int] = getattr(commands, arguments.command)
    try:
        with _stoppable():
            return command(arguments)
    except UsageError as error:
        print(f"posix-sdc: {error}", file=sys.stderr)
        return _USAGE
    except PosixSdcError as error:
        print(f"posix-sdc: {error}", file=sys.stderr)
        return _FAILED
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): nothing more to say, and no noise at shutdown.
        sys.stderr.close()
        return _DONE
    except KeyboardInterrupt as stop:
        print(
            "posix-sdc: interrupted; what is finished is on disk, the same command goes on from there", file=sys.stderr
        )
        return _BY_SIGNAL + getattr(stop, "number", signal.SIGINT)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C, TERM and HUP end a run once, in order; what comes while it ends is not heard."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise _Stopped(number)

    before: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        # What whoever started us ignores (`nohup`) stays ignored.
        before = {n: signal.getsignal(n) for n in _STOPPING if signal.getsignal(n) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what getsignal returned, signal takes


def _close_worlds() -> None:
    """Remove what an interrupted run still holds."""
    world = sys.modules.get("tiararodney.posix_sdc.worlds.protocol")
    if world is not None:
        world.close_worlds()


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return value


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected LOW-HIGH or one number, such as 1-3") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where one exists, as it would be typed."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.required or action.default in (None, "", False, argparse.SUPPRESS) or not action.option_strings:
            return action.help
        if isinstance(action.default, tuple):
            typed = ("-" if isinstance(action.default[0], int) else ",").join(map(str, action.default))
            return f"{action.help} (default: {typed})"
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """Takes underscores for dashes in flags, and answers a typo with what was meant instead of the whole usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, once flags are spelt as they are stated."""
        words = [_dashed(word) for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(words, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all there is.

        Raises:
            SystemExit: with 2, the message printed.
        """
        known = {flag for parser in self.every() for flag in parser._option_string_actions}  # noqa: SLF001 - ours
        for word in sys.argv[1:] if args is None else args:
            name = _dashed(word).partition("=")[0]
            if name.startswith("--") and not any(flag.startswith(name) for flag in known):
                self.error(f"found {word}, which is no flag{_meant(name, known)}")
        return super().parse_args(args, namespace)

    def every(self) -> Iterator[argparse.ArgumentParser]:
        """Yield this parser and those of its commands."""
        yield self
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no public name for it
                yield from action.choices.values()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action,
                f"found {value!r}, expected one of {', '.join(action.choices)}{_meant(str(value), action.choices)}",
            )

    def error(self, message: str) -> NoReturn:
        """Print the message in one line and exit with 2."""
        self.exit(_USAGE, f"{self.prog}: {message}. See {self.prog} --help.\n")


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]}?" if close else ""


class _Version(argparse.Action):
    """Prints the version, which only then is looked up."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print it and exit."""
        from importlib import metadata

        print("posix-sdc", metadata.version("tiararodney.posix-sdc"))
        parser.exit(_DONE)


def _parser() -> _Parser:
    parser = _Parser(
        prog="posix-sdc", description="Scenarios, worlds and recorded sessions for models that operate a POSIX shell."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what, formatter_class=_Defaults)
        sub.set_defaults(command=name)
        return sub

    def worlds(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--runtime", choices=("auto", "docker", "bwrap"), default="auto", help="what worlds run in")
        sub.add_argument(
            "--jobs", type=_positive, help="worlds in parallel (default: CPU count; 8 with a model endpoint)"
        )

    sub = add("generate", "write scenario bundles, the same bytes for the same seed")
    sub.add_argument("--n", type=_positive, required=True, help="number of scenarios to write")
    sub.add_argument("--seed", type=int, default=0, help="seed of all random choices; same seed, same files")
    sub.add_argument("--out", type=Path, required=True, help="folder to write to, one *.json per scenario")
    sub.add_argument(
        "--split", choices=("train", "holdout"), default="train", help="train, or worlds held out from training"
    )
    sub.add_argument(
        "--held-out",
        type=_names,
        default=("archetypes", "providers", "announcements", "utilities"),
        metavar="AXES",
        help="with --split holdout: what comes from the held-out share, comma-separated; the rest is as in training",
    )
    sub.add_argument(
        "--archetypes",
        default="",
        help="comma-separated archetypes, families (compare) or patterns (text_*), drawn equally often "
        "(default: all of the split)",
    )

    sub.add_argument(
        "--course",
        default="full",
        help="full: 1 to 10 commands, every provider and announcement, red herrings; first: one or two commands, plain",
    )
    sub.add_argument(
        "--commands",
        type=_range,
        default=(1, 10),
        metavar="LOW-HIGH",
        help="commands of work in a world, for the course full",
    )
    sub.add_argument("--teacher", metavar="URL", help="chat-completions endpoint of a model that writes the scenarios")
    sub.add_argument("--model", help="the teacher's model")
    sub.add_argument(
        "--attempts", type=_positive, default=3, help="attempts per scenario before giving up; refused replies are kept"
    )
    worlds(sub)

    sub = add("import", "make worlds of a public benchmark's tasks, and say which cannot be had here and why")
    _import_flags(sub)

    sub = add("gate", "play every bundle's reference solution and quarantine those whose checker is wrong")
    sub.add_argument(
        "--scenarios", type=Path, required=True, help="folder of bundles; a failing one is rewritten with its reason"
    )
    sub.add_argument("--near-misses", action="store_true", help="also play the near misses that bundles name")
    sub.add_argument("--again", action="store_true", help="judge also those bundles that were judged before")
    worlds(sub)

    sub = add("rollout", "let an operator act in every scenario and record the sessions")
    sub.add_argument("--scenarios", type=Path, required=True, help="folder of bundles")
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write to, one *.json per session; those already there are skipped",
    )
    _operator_flags(sub)
    worlds(sub)

    sub = add("image", "build the image that Docker worlds are made of")
    sub.add_argument(
        "--if-engine", action="store_true", help="do nothing where no engine answers or the image is there"
    )
    sub.add_argument(
        "--method", choices=("auto", "dockerfile", "debootstrap"), default="auto", help="what it comes from"
    )
    sub.add_argument("--mirror", default="", help="Debian mirror for debootstrap (default: this machine's own)")
    _reading_commands(add)
    return parser


def _reading_commands(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands that only read what others have written."""
    sub = add("show", "print sessions as terminal transcripts, scenarios as pages")
    sub.add_argument("file", type=Path, help="a trajectory or a scenario, *.json or *.jsonl, or a folder")
    sub.add_argument("--n", type=_positive, default=None, help="maximum number of records to print")

    sub = add("stats", "count what a folder holds")
    sub.add_argument("folder", type=Path, help="of scenarios or trajectories")
    sub.add_argument("--json", action="store_true", help="one line of JSON instead of a table")

    sub = add("export", "write scenarios or kept sessions as .jsonl, parquet or a data set folder")
    sub.add_argument("--trajectories", type=Path, help="folder of sessions")
    sub.add_argument("--scenarios", type=Path, help="folder of bundles")
    sub.add_argument("--out", type=Path, help="a file *.jsonl or *.parquet, or a folder for one .jsonl a split")
    sub.add_argument(
        "--hub", action="store_true", help="make --out a Hugging Face data set folder: parquet inside and a card"
    )
    sub.add_argument(
        "--chat",
        action="store_true",
        help="trajectories as TRL and Axolotl read them: messages, each with train (Axolotl: message_field_training)",
    )
    sub.add_argument("--harbor", type=Path, metavar="DIR", help="write --scenarios as Harbor tasks, a folder each")
    sub.add_argument("--all", action="store_true", help="rejected sessions and quarantined bundles too")


def _import_flags(sub: argparse.ArgumentParser) -> None:
    """Add the flags that say what is made of which benchmark."""
    sub.set_defaults(command="import_tasks")
    sub.add_argument("benchmark", choices=("intercode-alfa",), help="300 tasks, read from the installed package icalfa")
    sub.add_argument("--out", type=Path, required=True, help="folder to write to, one *.json per scenario")
    sub.add_argument(
        "--form",
        choices=("plain", "citizen"),
        default="plain",
        help="plain: the query is the first user turn, and one command is judged; citizen: it is a directive behind a "
        "provider",
    )
    sub.add_argument(
        "--split", choices=("train", "holdout"), default="holdout", help="what the scenarios say of themselves"
    )
    sub.add_argument(
        "--runtime",
        choices=("auto", "docker", "bwrap", "both"),
        default="auto",
        help="where gold commands are played; both: what they do differently in the two is left out",
    )
    sub.add_argument("--jobs", type=_positive, help="worlds in parallel (default: CPU count)")


def _operator_flags(sub: argparse.ArgumentParser) -> None:
    """Add the flags that say who acts in a rollout's sessions, how often and how long."""
    sub.add_argument(
        "--operator",
        default="reference",
        help="'reference', the URL of a chat-completions endpoint, or your own as MODULE:FUNCTION or FILE.py:FUNCTION "
        "(takes a scenario, returns an object with reply(messages) -> str)",
    )
    sub.add_argument("--model", default="", help="the endpoint's model")
    sub.add_argument("--samples", type=_positive, default=1, metavar="K", help="sessions of each scenario")
    sub.add_argument("--temperature", type=float, help="sampling temperature of the endpoint's model (default: 0)")
    sub.add_argument(
        "--max-new-tokens", type=_positive, help="tokens of one reply of the endpoint's model (default: 256)"
    )
    sub.add_argument("--seed", type=int, default=0, help="seed of the reference operator's choices")
    sub.add_argument(
        "--max-turns",
        type=_positive,
        default=None,
        help="commands after which a session is stopped (default: twice what its bundle asks for, and ten more)",
    )
