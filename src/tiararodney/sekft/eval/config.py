"""The one frozen record that says what an evaluation does, and its reading from flags and ``--config``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.settings import DTYPE_HELP, DTYPES, add_common_flags, flag_of, parse_flags, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        dtype: compute type, one of `settings.DTYPES`.
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
        return to_json(self)


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
    how.add_argument("--dtype", choices=DTYPES, default=d["dtype"], help=f"{DTYPE_HELP} (default: %(default)s)")
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
    add_common_flags(parser, verbose="more on stderr")
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
    args = parse_flags(build_parser(prog), argv, implied)
    values = {f.name: getattr(args, f.name) for f in fields(EvalConfig)}
    values |= {k: tuple(values[k] or ()) for k in ("adapters", "models")}
    for name, flag in (("scenarios", "--scenarios"), ("out", "--out")):
        if values[name] is None:
            raise UsageError(f"{flag} is missing: give a folder. See {prog} --help.")
    config = EvalConfig(**values)
    check(config)
    return config, args


def check(config: EvalConfig) -> None:
    """Refuse values that do not fit, before anything is loaded.

    Raises:
        UsageError: naming the flag, what was found and what is expected.
    """
    _check_contestants(config)
    for name in ("n", "max_turns", "max_new_tokens", "batch_size", "command_seconds", "request_seconds"):
        value = getattr(config, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{flag_of(name)}: found {value}, expected a number above 0.")
    if not 0 <= config.temperature < float("inf"):
        raise UsageError(f"--temperature: found {config.temperature}, expected 0 (greedy) or more.")


def _check_contestants(config: EvalConfig) -> None:
    if config.endpoint is not None:
        if config.base is not None or config.adapters:
            raise UsageError("--endpoint was given together with --base or --adapter: evaluate them in two runs.")
        if not config.models:
            raise UsageError("--endpoint needs --model NAME: the name under which the server knows the model.")
        from tiararodney.sekft.endpoint import check_url

        check_url(config.endpoint)
    elif config.base is None:
        raise UsageError("--base is missing: give the folder of the base model, or --endpoint URL --model NAME.")
    elif config.models:
        raise UsageError(
            "--model names a model of an endpoint: give --endpoint URL too, or --adapter DIR for an adapter."
        )
    elif config.no_base and not config.adapters:
        raise UsageError("--no-base leaves nothing to evaluate: give --adapter DIR.")
