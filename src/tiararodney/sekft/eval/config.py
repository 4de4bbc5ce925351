"""The one frozen record that says what an evaluation does, and its reading from flags and ``--config``."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPES = ("auto", "bfloat16", "float32")
RUNTIMES = ("auto", "docker", "bwrap")
SPLITS = ("train", "holdout")


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated, on what, and how.

    Args:
        scenarios: folder or file of scenario bundles.
        out: folder of `episodes.jsonl`, `report.json` and `report.html`.
        base: folder of the base model; None where an endpoint is evaluated.
        adapters: adapter folders, each evaluated on the same scenarios as the base.
        no_base: do not play the base itself.
        endpoint: URL of an OpenAI-compatible server (``http://host:port/v1``), None for a local base.
        models: names of the models that the endpoint serves.
        api_key_env: environment variable that holds the endpoint's key.
        n: number of scenarios, taken in turn from every archetype; None for all.
        split: only scenarios of this split; None for all.
        load_4bit: hold the base in NF4.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: compute type: ``auto`` (bfloat16), ``bfloat16`` or ``float32``.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        max_turns: commands that a session may take.
        max_new_tokens: tokens that a reply may take.
        temperature: 0 is greedy.
        seed: of the sampling.
        batch_size: sessions played side by side.
        command_seconds: time that one command may take.
        ignore_contract: evaluate an adapter whose render contract differs; the report says so.
        request_seconds: time that one request to the endpoint may take.
    """

    scenarios: Path
    out: Path
    base: Path | None = None
    adapters: tuple[Path, ...] = ()
    no_base: bool = False
    endpoint: str | None = None
    models: tuple[str, ...] = ()
    api_key_env: str = "OPENAI_API_KEY"
    n: int | None = None
    split: str | None = None
    load_4bit: bool = False
    device: str = "auto"
    dtype: str = "auto"
    runtime: str = "auto"
    max_turns: int = 16
    max_new_tokens: int = 48
    temperature: float = 0.0
    seed: int = 0
    batch_size: int = 16
    command_seconds: float = 10.0
    ignore_contract: bool = False
    request_seconds: float = 120.0

    def to_json(self) -> dict[str, Any]:
        """Return the resolved configuration as JSON values."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def build_parser(prog: str = "sekft-eval") -> argparse.ArgumentParser:
    """Return the parser; importing and building it loads nothing heavy."""
    d = {f.name: f.default for f in fields(EvalConfig)}
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Evaluate a base model, and adapters of it, in fresh POSIX worlds without any scaffold.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 bad usage or input, 130 interrupted. "
        "A killed run resumes: give the same command again.",
    )
    what = parser.add_argument_group("what is evaluated")
    what.add_argument("--base", type=Path, metavar="DIR", help="folder of the base model")
    what.add_argument(
        "--adapter",
        dest="adapters",
        type=Path,
        action="append",
        metavar="DIR",
        help="adapter that sekft-train wrote; may be given again, each is paired with the base",
    )
    what.add_argument("--no-base", action="store_true", help="play the adapters only")
    what.add_argument(
        "--endpoint", metavar="URL", help="evaluate a server of OpenAI chat completions instead (http://host:port/v1)"
    )
    what.add_argument(
        "--model", dest="models", action="append", metavar="NAME", help="model of the endpoint; may be given again"
    )
    what.add_argument(
        "--api-key-env",
        default=d["api_key_env"],
        metavar="VAR",
        help="environment variable with the endpoint's key (default: %(default)s)",
    )
    where = parser.add_argument_group("on what, and where to")
    where.add_argument(
        "--scenarios", type=Path, metavar="DIR", help="folder of scenario bundles (or a .json, .jsonl, .parquet)"
    )
    where.add_argument(
        "--n", type=int, metavar="N", help="number of scenarios, in turn from every archetype (default: all)"
    )
    where.add_argument("--split", choices=SPLITS, help="only scenarios of this split (default: all)")
    where.add_argument("--out", type=Path, metavar="DIR", help="folder for episodes.jsonl, report.json and report.html")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--load-4bit", action="store_true", help="hold the base in 4 bits (NF4), as sekft-train --load-4bit does"
    )
    how.add_argument("--device", default=d["device"], help="auto, cpu, cuda, cuda:0 ... (default: %(default)s)")
    how.add_argument(
        "--dtype", choices=DTYPES, default=d["dtype"], help="compute type; auto is bfloat16 (default: %(default)s)"
    )
    how.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=d["runtime"],
        help="where worlds run; auto takes docker if an engine answers, else bwrap (default: %(default)s)",
    )
    how.add_argument(
        "--max-turns", type=int, default=d["max_turns"], help="commands a session may take (default: %(default)s)"
    )
    how.add_argument(
        "--max-new-tokens", type=int, default=d["max_new_tokens"], help="tokens a reply may take (default: %(default)s)"
    )
    how.add_argument("--temperature", type=float, default=d["temperature"], help="0 is greedy (default: %(default)s)")
    how.add_argument("--seed", type=int, default=d["seed"], help="of the sampling (default: %(default)s)")
    how.add_argument(
        "--batch-size", type=int, default=d["batch_size"], help="sessions played side by side (default: %(default)s)"
    )
    how.add_argument(
        "--command-seconds",
        type=float,
        default=d["command_seconds"],
        help="time one command may take, in seconds (default: %(default)s)",
    )
    how.add_argument(
        "--request-seconds",
        type=float,
        default=d["request_seconds"],
        help="time one request to the endpoint may take, in seconds (default: %(default)s)",
    )
    how.add_argument(
        "--ignore-contract",
        action="store_true",
        help="evaluate an adapter although its render contract (render.json) differs; the report says so",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="defaults for these flags, keys of the same name"
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more on stderr")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def parse(
    argv: list[str], prog: str = "sekft-eval", implied: Mapping[str, Any] | None = None
) -> tuple[EvalConfig, argparse.Namespace]:
    """Read flags and ``--config`` into one checked record.

    Args:
        argv: the arguments, without the program's name.
        prog: name in messages.
        implied: values that the caller has settled (a resident's base); another value of the flag is refused.

    Raises:
        UsageError: a value is missing, does not fit, or contradicts another.
        SystemExit: argparse's own, for ``--help`` and unknown flags.
    """
    parser = build_parser(prog)
    args = parser.parse_args(argv)
    if args.config is not None:
        parser.set_defaults(**_read_config(args.config, parser))
        args = parser.parse_args(argv)
    values = {f.name: getattr(args, f.name) for f in fields(EvalConfig)}
    for name, value in (implied or {}).items():
        given = values[name]
        if given not in (None, False, "auto", value):
            raise UsageError(f"--{name.replace('_', '-')}: found {given}, but here it is {value}. Leave the flag out.")
        values[name] = value
    values |= {k: tuple(values[k] or ()) for k in ("adapters", "models")}
    for name, flag in (("scenarios", "--scenarios"), ("out", "--out")):
        if values[name] is None:
            raise UsageError(f"{flag} is missing: give a folder. See {prog} --help.")
    config = EvalConfig(**values)
    check(config)
    return config, args


def _read_config(file: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read a YAML file of flags; keys may be written with - or _."""
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UsageError(f"--config {file}: {error.strerror}. Give a readable YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--config {file}: no YAML ({str(error).splitlines()[0]}). Write lines such as 'n: 16'."
        ) from None
    if not isinstance(data, dict):
        raise UsageError(f"--config {file}: found a {type(data).__name__}, expected keys and values such as 'n: 16'.")
    actions = {s.lstrip("-"): a for a in parser._actions for s in a.option_strings if s.startswith("--")}  # noqa: SLF001 - argparse has no public list
    out = {}
    for key, value in data.items():
        action = actions.get(str(key).replace("_", "-"))
        if action is None or action.dest in ("help", "config"):
            raise UsageError(f"--config {file}: field {key!r} is no flag of {parser.prog}. See {parser.prog} --help.")
        out[action.dest] = _typed(action, value, f"--config {file}: field {key!r}")
    return out


def _typed(action: argparse.Action, value: Any, where: str) -> Any:
    """Bring a YAML value to the type that the flag has."""
    if isinstance(action.default, bool) and action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: found {value!r}, expected true or false.")
        return value
    kind: Any = action.type or str
    many = isinstance(action, argparse._AppendAction)  # noqa: SLF001 - argparse has no public name for it
    items = value if many and isinstance(value, list) else [value]
    if any(isinstance(v, list | dict | bool) or v is None for v in items):
        raise UsageError(f"{where}: found {value!r}, expected {'a list of values' if many else 'one value'}.")
    try:
        typed = [kind(v if kind is not str else str(v)) for v in items]
    except (TypeError, ValueError):
        raise UsageError(f"{where}: found {value!r}, expected {getattr(kind, '__name__', 'a value')}.") from None
    if action.choices is not None and any(v not in action.choices for v in typed):
        raise UsageError(f"{where}: found {value!r}, expected one of {', '.join(map(str, action.choices))}.")
    return typed if many else typed[0]


def check(config: EvalConfig) -> None:
    """Refuse values that do not fit, before anything is loaded.

    Raises:
        UsageError: naming the flag, what was found and what is expected.
    """
    _check_contestants(config)
    for name in ("n", "max_turns", "max_new_tokens", "batch_size", "command_seconds", "request_seconds"):
        value = getattr(config, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')}: found {value}, expected a number above 0.")
    if not 0 <= config.temperature < float("inf"):
        raise UsageError(f"--temperature: found {config.temperature}, expected 0 (greedy) or more.")


def _check_contestants(config: EvalConfig) -> None:
    if config.endpoint is not None:
        if config.base is not None or config.adapters:
            raise UsageError("--endpoint was given together with --base or --adapter: evaluate them in two runs.")
        if not config.models:
            raise UsageError("--endpoint needs --model NAME: the name under which the server knows the model.")
        if not config.endpoint.startswith(("http://", "https://")):
            raise UsageError(f"--endpoint: found {config.endpoint!r}, expected a URL such as http://127.0.0.1:8000/v1.")
    elif config.base is None:
        raise UsageError("--base is missing: give the folder of the base model, or --endpoint URL --model NAME.")
    elif config.models:
        raise UsageError(
            "--model names a model of an endpoint: give --endpoint URL too, or --adapter DIR for an adapter."
        )
    elif config.no_base and not config.adapters:
        raise UsageError("--no-base leaves nothing to evaluate: give --adapter DIR.")
