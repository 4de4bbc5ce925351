"""The one frozen record that says what a training run does, and its reading from flags and ``--config``."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERIFIED = ("any", "passed", "failed")
POLICIES = ("keep", "escape")  # those of `render.fingerprint`, which --help has no time to load
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class TrainConfig:
    """What is trained, on what, and how. A field is a flag; its ``help`` says what it means.

    Fields with ``plan`` decide which adapter comes out: a resumed run must agree in them.
    """

    base: Path = field(metadata={"help": "folder of the base model", "metavar": "DIR"})
    out: Path = field(metadata={"help": "folder to write the adapter to; must not exist", "metavar": "DIR"})
    data: tuple[Path, ...] = field(
        default=(), metadata={"help": "trajectories: folder, .json, .jsonl or .parquet; may be given again"}
    )
    hub: tuple[str, ...] = field(default=(), metadata={"help": "name of a data set on the hub; may be given again"})
    data_version: tuple[str, ...] = field(
        default=(), metadata={"help": "take trajectories of this version only; may be given again", "metavar": "V"}
    )
    data_split: tuple[str, ...] = field(
        default=(), metadata={"help": "take trajectories of this split only; may be given again", "metavar": "SPLIT"}
    )
    verified: str = field(
        default="any", metadata={"help": "take trajectories whose check passed, failed, or any", "choices": VERIFIED}
    )
    quarantined: bool = field(default=False, metadata={"help": "take trajectories under quarantine too"})
    control_tokens: str = field(
        default="keep",
        metadata={
            "plan": True,
            "help": "text of control tokens in messages: keep it as endpoints do, or escape it, in serving too",
            "choices": POLICIES,
        },
    )
    load_4bit: bool = field(default=False, metadata={"help": "hold the base in 4 bits (NF4), compute in bf16"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, cuda:0 ..."})
    dtype: str = field(default="auto", metadata={"help": "compute type: auto (bfloat16), bfloat16 or float32"})
    lora_r: int = field(default=16, metadata={"plan": True, "help": "rank of the LoRA matrices"})
    lora_alpha: float = field(default=32.0, metadata={"plan": True, "help": "LoRA scale, divided by the rank"})
    lora_dropout: float = field(
        default=0.0, metadata={"plan": True, "help": "dropout before LoRA; above 0 the fast layers are not used"}
    )
    target_modules: str = field(
        default="all-linear", metadata={"plan": True, "help": "all-linear, or names of layers with commas between"}
    )
    use_rslora: bool = field(default=False, metadata={"plan": True, "help": "divide alpha by the rank's root instead"})
    learning_rate: float = field(default=5e-4, metadata={"plan": True, "help": "peak of AdamW's step size"})
    weight_decay: float = field(default=0.0, metadata={"plan": True, "help": "AdamW's decay"})
    max_grad_norm: float = field(default=1.0, metadata={"plan": True, "help": "gradients are cut to this norm"})
    lr_schedule: str = field(
        default="cosine", metadata={"plan": True, "help": "how the rate falls after the warm-up", "choices": SCHEDULES}
    )
    warmup_ratio: float = field(default=0.05, metadata={"plan": True, "help": "share of the steps the rate rises in"})
    epochs: float = field(default=2.0, metadata={"plan": True, "help": "how often every example is seen"})
    max_steps: int = field(default=0, metadata={"plan": True, "help": "stop after so many steps; 0 for no limit"})
    max_length: int = field(
        default=4096, metadata={"plan": True, "help": "longer examples are left out and named, never cut"}
    )
    tokens_per_batch: int = field(default=4096, metadata={"plan": True, "help": "tokens an optimizer step learns from"})
    tokens_per_row: int = field(
        default=0, metadata={"plan": True, "help": "tokens that go through the model at once; 0 picks by the device"}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "compute layers twice to hold less in memory"}
    )
    validation_fraction: float = field(
        default=0.0, metadata={"plan": True, "help": "share of the scenarios held back to validate on"}
    )
    validate_every: int = field(
        default=0, metadata={"plan": True, "help": "steps between validations; 0 for the end of each epoch"}
    )
    patience: int = field(
        default=0, metadata={"plan": True, "help": "stop after so many validations without a better loss; 0 for never"}
    )
    checkpoint_every: int = field(default=50, metadata={"help": "steps between checkpoints; 0 for none"})
    resume: bool = field(default=False, metadata={"help": "go on from the checkpoint of a run that was cut off"})
    overwrite: bool = field(default=False, metadata={"help": "replace --out, and drop a checkpoint beside it"})
    seed: int = field(default=0, metadata={"plan": True, "help": "of the order and of LoRA's first weights"})

    def to_json(self) -> dict[str, Any]:
        """Return the resolved configuration as JSON values."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def plan(self) -> dict[str, Any]:
        """Return what decides which adapter comes out, besides data and base."""
        values = self.to_json()
        return {f.name: values[f.name] for f in fields(self) if f.metadata.get("plan")}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


GROUPS = {
    "what is trained, on what, and where to": ("data", "hub", "base", "out", "load_4bit", "device", "dtype"),
    "which trajectories, and how they are rendered": (
        "data_version", "data_split", "verified", "quarantined", "control_tokens",
    ),
    "LoRA": ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora"),
    "optimisation": (
        "learning_rate", "weight_decay", "max_grad_norm", "lr_schedule", "warmup_ratio", "epochs", "max_steps",
        "max_length", "tokens_per_batch", "tokens_per_row", "gradient_checkpointing", "seed",
    ),
    "validation and checkpoints": (
        "validation_fraction", "validate_every", "patience", "checkpoint_every", "resume", "overwrite",
    ),
}  # fmt: skip
TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "Path": Path,
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
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="defaults for these flags, keys of the same name"
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a line on stderr for every step")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def _add_flag(group: Any, name: str, kind: str, default: Any, metadata: Mapping[str, Any]) -> None:
    flag = "--" + name.replace("_", "-")
    if kind == "bool":
        group.add_argument(flag, action="store_true", help=metadata["help"])
        return
    options: dict[str, Any] = {"type": TYPES[kind], "help": metadata["help"]}
    options |= {key: metadata[key] for key in ("choices", "metavar") if key in metadata}
    if kind.startswith("tuple"):
        options = {"metavar": "NAME" if name == "hub" else "DIR|FILE"} | options | {"action": "append"}
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
    parser = build_parser(prog)
    args = parser.parse_args(argv)
    if args.config is not None:
        parser.set_defaults(**_read_config(args.config, parser))
        args = parser.parse_args(argv)
    for name, value in (implied or {}).items():
        given = getattr(args, name)
        if given not in (None, False, "auto", value):
            raise UsageError(f"--{name.replace('_', '-')}: found {given}, but here it is {value}. Leave the flag out.")
        setattr(args, name, value)
    for name in ("data", "hub", "data_version", "data_split"):
        setattr(args, name, tuple(getattr(args, name) or ()))
    if not args.data and not args.hub:
        raise UsageError(f"--data is missing: give a folder or file of trajectories, or --hub. See {prog} --help.")
    if args.base is None:
        raise UsageError(f"--base is missing: give the folder of a base model. See {prog} --help.")
    if args.inspect:
        return None, args
    if args.out is None:
        raise UsageError(f"--out is missing: give the folder to write the adapter to. See {prog} --help.")
    config = TrainConfig(**{f.name: getattr(args, f.name) for f in fields(TrainConfig)})
    check(config)
    return config, args


def check(config: TrainConfig) -> None:
    """Refuse values that do not fit, before anything is loaded.

    Raises:
        UsageError: Naming the flag, what was found and what is expected.
    """
    above = ("lora_r", "lora_alpha", "learning_rate", "epochs", "max_length", "tokens_per_batch", "max_grad_norm")
    at_least = ("max_steps", "tokens_per_row", "weight_decay", "validate_every", "patience", "checkpoint_every", "seed")
    below_one = ("lora_dropout", "warmup_ratio", "validation_fraction")
    rules: tuple[tuple[tuple[str, ...], Any, str], ...] = (
        (above, lambda value: 0 < value < float("inf"), "a number above 0"),
        (at_least, lambda value: 0 <= value < float("inf"), "0 or more"),
        (below_one, lambda value: 0 <= value < 1, "at least 0 and below 1"),
    )
    for names, fits, expected in rules:
        for name in names:
            if not fits(getattr(config, name)):
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag}: found {getattr(config, name)}, expected {expected}.")
    if config.patience and not config.validation_fraction:
        raise UsageError("--patience: needs validation sessions. Give --validation-fraction too, such as 0.1.")


def _read_config(file: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read a YAML file of flags; keys may be written with - or _, and mean what the flag means."""
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UsageError(f"--config {file}: {error.strerror}. Give a readable YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = str(error).splitlines()[0]
        raise UsageError(f"--config {file}: no YAML ({found}). Write lines such as 'epochs: 2'.") from None
    if not isinstance(data, dict):
        raise UsageError(f"--config {file}: found a {type(data).__name__}, expected lines such as 'epochs: 2'.")
    known = {f.name: f for f in fields(TrainConfig)}
    values = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        where = f"--config {file}: field {key!r}"
        if name not in known:
            raise UsageError(f"{where} is no flag of {parser.prog}. See {parser.prog} --help.")
        values[name] = _typed(str(known[name].type), value, known[name].metadata.get("choices"), where)
    return values


def _typed(kind: str, value: Any, choices: tuple[str, ...] | None, where: str) -> Any:
    if kind == "bool" or isinstance(value, bool):
        if kind != "bool" or not isinstance(value, bool):
            raise UsageError(f"{where}: found {value!r}, expected {'true or false' if kind == 'bool' else 'a value'}.")
        return value
    many = kind.startswith("tuple")
    items = value if many and isinstance(value, list) else [value]
    if any(isinstance(item, list | dict | bool) or item is None for item in items):
        raise UsageError(f"{where}: found {value!r}, expected {'a list of values' if many else 'one value'}.")
    try:
        typed = [TYPES[kind](item if kind in ("int", "float") else str(item)) for item in items]
    except (TypeError, ValueError):
        raise UsageError(f"{where}: found {value!r}, expected {TYPES[kind].__name__}.") from None
    if choices and typed[0] not in choices:
        raise UsageError(f"{where}: found {value!r}, expected one of {', '.join(choices)}.")
    return typed if many else typed[0]
