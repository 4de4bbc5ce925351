"""The flags of ``sekft-train``: a flag for every field of the configuration, and those of ``--inspect``."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.settings import add_common_flags, flag_of, parse_flags
from tiararodney.sekft.sft.config import TrainConfig, check

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUPS = {
    "what is trained, on what, and where to": (
        "data", "hub", "base", "out", "load_4bit", "no_base_cache", "device", "dtype",
    ),
    "which trajectories, and how they are rendered": (
        "data_version", "data_split", "verified", "quarantined", "control_tokens",
    ),
    "LoRA": ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "init_adapter"),
    "optimisation": (
        "learning_rate", "weight_decay", "max_grad_norm", "lr_schedule", "warmup_ratio", "epochs", "max_steps",
        "max_length", "tokens_per_batch", "tokens_per_row", "terminal_weight",
        "gradient_checkpointing", "compile", "seed",
    ),
    "validation and checkpoints": (
        "validation_fraction", "validation_by", "validate_every", "patience", "checkpoint_every", "resume", "overwrite",
    ),
    "what else is written": ("report_to", "save_merged", "push_to_hub", "hub_public"),
}  # fmt: skip
TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "Path": Path,
    "Path | None": Path,
    "str | None": str,
    "tuple[Path, ...]": Path,
    "tuple[str, ...]": str,
}


def build_parser(prog: str = "sekft-train") -> argparse.ArgumentParser:
    """Return the parser; importing and building it loads nothing heavy."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a LoRA adapter on recorded sessions, or show what would be trained (--inspect).",
        epilog="Exit codes: 0 done, 1 the run failed, 2 bad usage or input, 130 interrupted.",
    )
    known = {f.name: f for f in fields(TrainConfig)}
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            _add_flag(group, name, str(known[name].type), known[name].default, known[name].metadata)
    look = parser.add_argument_group("looking at the data (needs no torch)")
    look.add_argument("--inspect", action="store_true", help="show the mask, statistics and refusals, train nothing")
    look.add_argument("--show", type=int, default=3, metavar="N", help="sessions shown in full (default: %(default)s)")
    look.add_argument("--json", action="store_true", help="print what --inspect found as one JSON object")
    look.add_argument("--html", metavar="FILE", help="write what --inspect found as a page")
    _add_endpoint_flags(parser)
    add_common_flags(parser, verbose="a line on stderr for every step")
    return parser


def _add_endpoint_flags(parser: argparse.ArgumentParser) -> None:
    live = parser.add_argument_group("holding a server against the data (with --inspect; exit code 1 where it differs)")
    live.add_argument("--endpoint", metavar="URL", help="ask this server for its prompts (http://host:port/v1)")
    live.add_argument("--model", metavar="NAME", help="name under which the server knows the model")
    live.add_argument(
        "--api-key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable with the endpoint's key (default: %(default)s)",
    )
    live.add_argument(
        "--endpoint-sessions", type=int, default=5, metavar="N", help="sessions to compare (default: %(default)s)"
    )
    live.add_argument(
        "--request-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="time one request to the endpoint may take, in seconds (default: %(default)s)",
    )


def _add_flag(group: Any, name: str, kind: str, default: Any, metadata: Mapping[str, Any]) -> None:
    flag = flag_of(name)
    if kind == "bool":
        group.add_argument(flag, action="store_true", help=metadata["help"])
        return
    options: dict[str, Any] = {"type": TYPES[kind], "help": metadata["help"]}
    options |= {key: metadata[key] for key in ("choices", "metavar") if key in metadata}
    if kind.startswith("tuple"):
        shown = {} if "choices" in metadata else {"metavar": "NAME" if name == "hub" else "DIR|FILE"}
        options = shown | options | {"action": "append"}
    elif isinstance(default, str | int | float):
        options |= {"default": default}
        options["help"] += " (default: %(default)s)"
    group.add_argument(flag, **options)


def parse(
    argv: list[str], prog: str = "sekft-train", implied: Mapping[str, Any] | None = None
) -> tuple[TrainConfig | None, argparse.Namespace]:
    """Read flags and ``--config`` into one checked record.

    Args:
        argv: The arguments, without the program's name.
        prog: Name in messages.
        implied: Values that the caller has settled (a resident's base); another value of the flag is refused.

    Returns:
        The configuration (None with ``--inspect``, which needs less), and all that was parsed.

    Raises:
        UsageError: A value is missing or does not fit.
        SystemExit: argparse's own, for ``--help`` and unknown flags.
    """
    args = parse_flags(build_parser(prog), argv, implied)
    for name in ("data", "hub", "data_version", "data_split", "report_to"):
        setattr(args, name, tuple(getattr(args, name) or ()))
    if not args.data and not args.hub:
        raise UsageError(f"--data is missing: give a folder or file of trajectories, or --hub. See {prog} --help.")
    if args.base is None:
        raise UsageError(f"--base is missing: give the folder of a base model. See {prog} --help.")
    _check_endpoint(args)
    if args.inspect:
        return None, args
    if args.out is None:
        raise UsageError(f"--out is missing: give the folder to write the adapter to. See {prog} --help.")
    config = TrainConfig(**{f.name: getattr(args, f.name) for f in fields(TrainConfig)})
    check(config)
    return config, args


def _check_endpoint(args: argparse.Namespace) -> None:
    if args.endpoint is None:
        if args.model is not None:
            raise UsageError("--model names a model of an endpoint: give --endpoint URL too.")
        return
    if not args.inspect:
        raise UsageError("--endpoint is asked for its prompts by --inspect: give that too.")
    if args.model is None:
        raise UsageError("--endpoint needs --model NAME: the name under which the server knows the model.")
    for name in ("endpoint_sessions", "request_seconds"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UsageError(f"{flag_of(name)}: found {getattr(args, name)}, expected a number above 0.")
    from tiararodney.sekft.endpoint import check_url

    check_url(args.endpoint)
