"""The one frozen record that says what a training run does, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.settings import DTYPE_HELP, DTYPES, flag_of, to_json

if TYPE_CHECKING:
    from pathlib import Path

VERIFIED = ("any", "passed", "failed")
POLICIES = ("keep", "escape")  # those of `render.fingerprint`, which --help has no time to load
VALIDATION_BY = ("scenario", "archetype")
TRACKERS = ("tensorboard", "wandb", "trackio")
CHECKPOINTING = ("auto", "always", "never")
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
    load_4bit: bool = field(default=False, metadata={"help": "hold the base in 4 bits (NF4)"})
    no_base_cache: bool = field(
        default=False,
        metadata={"help": "with --load-4bit: quantise the base again, keep no 4-bit copy in the cache folder"},
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, cuda:0 ..."})
    dtype: str = field(default="auto", metadata={"help": DTYPE_HELP, "choices": DTYPES})
    lora_r: int = field(default=16, metadata={"plan": True, "help": "rank of the LoRA matrices"})
    lora_alpha: float = field(default=32.0, metadata={"plan": True, "help": "LoRA scale, divided by the rank"})
    lora_dropout: float = field(
        default=0.0, metadata={"plan": True, "help": "dropout before LoRA; above 0 the fast layers are not used"}
    )
    target_modules: str = field(
        default="all-linear", metadata={"plan": True, "help": "all-linear, or names of layers with commas between"}
    )
    use_rslora: bool = field(default=False, metadata={"plan": True, "help": "divide alpha by the rank's root instead"})
    use_dora: bool = field(
        default=False,
        metadata={"plan": True, "help": "train the weights' lengths too (DoRA); the fast layers are not used"},
    )
    init_adapter: Path | None = field(
        default=None,
        metadata={"help": "adapter to go on training, with its shape; its folder is left alone", "metavar": "DIR"},
    )
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
        default=0,
        metadata={"plan": True, "help": "tokens that go through the model at once; 0 picks by device and free memory"},
    )
    terminal_weight: float = field(
        default=1.0,
        metadata={
            "plan": True,
            "help": "what a token of a session's last turn counts in the loss, a command's counting 1; "
            "the loss is the sum of counts times losses over the sum of counts of the step",
        },
    )
    gradient_checkpointing: str = field(
        default="auto",
        metadata={
            "help": "compute layers twice to hold less in memory; auto: where an example would not fit otherwise",
            "choices": CHECKPOINTING,
        },
    )
    compile: bool = field(
        default=False,
        metadata={"plan": True, "help": "torch.compile the layers where the fast ones are not used; needs a compiler"},
    )
    validation_fraction: float = field(
        default=0.0, metadata={"plan": True, "help": "share of the scenarios (or archetypes) held back to validate on"}
    )
    validation_by: str = field(
        default="scenario",
        metadata={"plan": True, "help": "what is held back whole, with all its sessions", "choices": VALIDATION_BY},
    )
    validate_every: int = field(
        default=0, metadata={"plan": True, "help": "steps between validations; 0 for the end of each epoch"}
    )
    patience: int = field(
        default=0, metadata={"plan": True, "help": "stop after so many validations without a better loss; 0 for never"}
    )
    report_to: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "tell of the run here too; may be given again. TensorBoard's files lie beside --out",
            "choices": TRACKERS,
        },
    )
    save_merged: Path | None = field(
        default=None,
        metadata={"help": "write base and adapter as one model here too; must not exist", "metavar": "DIR"},
    )
    push_to_hub: str | None = field(
        default=None, metadata={"help": "upload the adapter's folder to this repository of the hub", "metavar": "NAME"}
    )
    hub_public: bool = field(
        default=False, metadata={"help": "let everybody see a repository that --push-to-hub makes"}
    )
    checkpoint_every: int = field(default=50, metadata={"help": "steps between checkpoints; 0 for none"})
    resume: bool = field(default=False, metadata={"help": "go on from the checkpoint of a run that was cut off"})
    overwrite: bool = field(default=False, metadata={"help": "replace --out, and drop a checkpoint beside it"})
    seed: int = field(default=0, metadata={"plan": True, "help": "of the order and of LoRA's first weights"})

    def to_json(self) -> dict[str, Any]:
        """Return the resolved configuration as JSON values."""
        return to_json(self)

    def plan(self) -> dict[str, Any]:
        """Return what decides which adapter comes out, besides data and base."""
        values = self.to_json()
        return {f.name: values[f.name] for f in fields(self) if f.metadata.get("plan")}


def check(config: TrainConfig) -> None:
    """Refuse values that do not fit, before anything is loaded.

    Raises:
        UsageError: Naming the flag, what was found and what is expected.
    """
    above = (
        "lora_r", "lora_alpha", "learning_rate", "epochs", "max_length", "tokens_per_batch", "max_grad_norm",
        "terminal_weight",
    )  # fmt: skip
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
                raise UsageError(f"{flag_of(name)}: found {getattr(config, name)}, expected {expected}.")
    for tracker in config.report_to:
        if tracker not in TRACKERS:
            raise UsageError(f"--report-to: found {tracker}, expected one of {', '.join(TRACKERS)}.")
    if config.save_merged is not None and config.save_merged == config.out:
        raise UsageError(f"--save-merged: found {config.out}, which is --out too. Name another folder.")
    if config.patience and not config.validation_fraction:
        raise UsageError("--patience: needs validation sessions. Give --validation-fraction too, such as 0.1.")
