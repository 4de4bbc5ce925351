"""The settings of ``sekft-train``: one frozen record for a training run, one for ``--inspect``."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path  # noqa: TC003 - the settings' types are read at run time
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import flags
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.residents import Remote
from tiararodney.sekft.settings import Settings, read_settings, setting, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ABOUT = "Train a LoRA adapter on recorded sessions, or show what would be trained (--inspect)."


@dataclass(frozen=True)
class TrainConfig:
    """What is trained, on what, and how. A field is a flag; its `setting` says what it means and what it takes."""

    base: Path = flags.base(group="model, data, output", default=MISSING)
    out: Path = setting("folder to write the adapter to", metavar="DIR")
    data: tuple[Path, ...] = setting(
        "trajectories: a folder, .json, .jsonl or .parquet", default=(), metavar="DIR|FILE"
    )
    hub: tuple[str, ...] = setting("name of a data set on the hub", default=())
    load_4bit: bool = flags.load_4bit()
    no_base_cache: bool = flags.no_base_cache()
    device: str = flags.device()
    dtype: str = flags.dtype()

    data_version: tuple[str, ...] = setting(
        "only trajectories of this version", default=(), metavar="V", group="selection and rendering"
    )
    data_split: tuple[str, ...] = setting(
        "only trajectories of this split (train where not given); all: every split, also those held out",
        default=("train",),
        metavar="SPLIT",
    )
    verified: str = setting(
        "only trajectories whose check passed, or failed", default="any", choices=("any", "passed", "failed")
    )
    quarantined: bool = setting("also take trajectories under quarantine", default=False)
    control_tokens: str = setting(
        "control tokens spelled out in messages: keep them as endpoints do, or escape them, in serving too",
        default="keep",
        choices=("keep", "escape"),
        plan=True,
    )

    lora_r: int = setting("LoRA rank", default=16, above=0, plan=True, group="LoRA")
    lora_alpha: float = setting("LoRA alpha; the update is scaled by alpha / r", default=32.0, above=0, plan=True)
    lora_dropout: float = setting(
        "dropout on LoRA's input; above 0 the fast layers are not used", default=0.0, at_least=0, below=1, plan=True
    )
    target_modules: str = setting(
        "all-linear (of the text model), comma-separated module names, or a regular expression over module paths",
        default="all-linear",
        metavar="NAMES",
        plan=True,
    )
    exclude_modules: str | None = setting(
        "leave these out, as --target-modules names them", default=None, metavar="NAMES", plan=True
    )
    use_rslora: bool = setting("scale by alpha / sqrt(r) (rsLoRA)", default=False, plan=True)
    use_dora: bool = setting("use DoRA; the fast layers are not used", default=False, plan=True)
    init_adapter: Path | None = setting("continue training from this adapter", default=None, metavar="DIR")

    learning_rate: float = setting("peak learning rate", default=5e-4, above=0, plan=True, group="optimization")
    weight_decay: float = setting("weight decay", default=0.0, at_least=0, plan=True)
    max_grad_norm: float = setting("clip gradients to this norm", default=1.0, above=0, plan=True)
    lr_schedule: str = setting(
        "learning rate schedule, by transformers' name", default="cosine", also=("--lr-scheduler-type",), plan=True
    )
    optim: str = setting(
        "optimizer, by transformers' name (adamw_8bit, paged_adamw_8bit, ...)", default="adamw_torch_fused", plan=True
    )
    warmup_ratio: float = setting("fraction of steps for linear warmup", default=0.05, at_least=0, below=1, plan=True)
    epochs: float = setting("passes over the data", default=2.0, above=0, plan=True)
    max_steps: int = setting("stop after this many optimizer steps; 0: no limit", default=0, at_least=0, plan=True)
    max_length: int = setting(
        "skip examples longer than this many tokens, and name them", default=4096, above=0, plan=True
    )
    tokens_per_batch: int = setting("batch size of an optimizer step, in tokens", default=4096, above=0, plan=True)
    tokens_per_row: int = setting(
        "micro-batch size, in tokens; 0: chosen by device and free memory", default=0, at_least=0, plan=True
    )
    terminal_weight: float = setting(
        "loss weight of the tokens of a session's last turn; all others weigh 1", default=1.0, above=0, plan=True
    )
    gradient_checkpointing: str = setting(
        "recompute activations to save memory; auto: of micro-batches that would not fit otherwise",
        default="auto",
        choices=("auto", "always", "never"),
    )
    no_packing: bool = setting("train one session at a time instead of packed rows", default=False, plan=True)
    divergence_steps: int = setting(
        "stop when the loss has been out of hand for this many steps; 0: never", default=5, at_least=0
    )
    seed: int = setting("random seed (data order, LoRA initialization)", default=0, at_least=0, plan=True)

    validation_fraction: float = setting(
        "fraction of the scenarios (or archetypes) to validate on",
        default=0.0,
        at_least=0,
        below=1,
        plan=True,
        group="validation and checkpoints",
    )
    validation_by: str = setting(
        "what the validation split keeps together", default="scenario", choices=("scenario", "archetype"), plan=True
    )
    validate_every: int = setting("steps between validations; 0: each epoch", default=0, at_least=0, plan=True)
    patience: int = setting(
        "stop after this many validations without a better loss (with --eval-scenarios: success rate); 0: never",
        default=0,
        at_least=0,
        plan=True,
    )
    checkpoint_every: int = setting("steps between checkpoints; 0: none", default=50, at_least=0)
    resume: bool = setting("continue from the checkpoint of an interrupted run", default=False)
    overwrite: bool = setting("replace --out, and drop a checkpoint beside it", default=False)

    report_to: tuple[str, ...] = setting(
        "also log metrics to this tracker of transformers (tensorboard, wandb, trackio, ...); TensorBoard's files are "
        "written beside --out",
        default=(),
        group="further outputs",
    )
    base_name: str | None = setting(
        "what the adapter calls its base (default: its hub id, else its absolute path)", default=None
    )
    save_merged: Path | None = setting("also write base and adapter merged into one model", default=None, metavar="DIR")
    push_to_hub: str | None = setting("upload the adapter to this hub repository", default=None)
    hub_public: bool = setting("make a repository that --push-to-hub creates public", default=False)

    def to_json(self) -> dict[str, Any]:
        """Return the resolved configuration as JSON values."""
        return to_json(self)

    def plan(self) -> dict[str, Any]:
        """Return what decides which adapter comes out, besides data and base."""
        values = self.to_json()
        return {f.name: values[f.name] for f in fields(self) if f.metadata["setting"].plan}


@dataclass(frozen=True)
class BehaviourFlags:
    """Whether a resident plays the adapter in training in worlds, to keep the best by what it does there."""

    eval_scenarios: Path | None = setting(
        "on a resident: play the adapter in training in these worlds, and keep the weights with the best success rate",
        default=None,
        metavar="DIR|FILE",
        group="best checkpoint by behaviour",
    )
    eval_every: int = setting("steps between these evaluations; the last step is evaluated too", default=50, above=0)
    eval_n: int = setting("number of scenarios to play each time", default=16, above=0)


@dataclass(frozen=True)
class InspectConfig:
    """What ``--inspect`` takes: flags of its own, and those of a training that it reads too (see `TrainConfig`)."""

    base: Path
    data: tuple[Path, ...] = ()
    hub: tuple[str, ...] = ()
    max_length: int = 4096
    data_version: tuple[str, ...] = ()
    data_split: tuple[str, ...] = ("train",)
    verified: str = "any"
    quarantined: bool = False
    control_tokens: str = "keep"
    inspect: bool = setting(
        "show mask, statistics and refusals instead of training", default=False, group="inspection (needs no torch)"
    )
    show: int = setting("sessions to show in full", default=3, at_least=0)
    json: bool = setting("print the findings as one JSON object", default=False)
    html: str | None = setting("also write the findings as a page", default=None, metavar="FILE")
    endpoint: str | None = setting(
        "compare a server's prompts with those trained on (http://host:port/v1); exit code 1 where they differ",
        default=None,
        metavar="URL",
    )
    model: str | None = setting("the model's name on that server", default=None)
    api_key_env: str = flags.api_key_env()
    endpoint_sessions: int = setting("sessions to compare", default=5, above=0)
    request_seconds: float = flags.request_seconds(default=60.0)


def read(argv: Sequence[str], prog: str = "sekft-train", settled: Mapping[str, Any] | None = None) -> Settings:
    """Read flags and ``--config``.

    Args:
        argv: The arguments, without the program's name.
        prog: Name in messages.
        settled: Values that the caller has settled (a resident's base); another value of the flag is refused.

    Raises:
        UsageError: A value is missing or does not fit.
        SystemExit: After ``--help`` and ``--version``.
    """
    records = (TrainConfig, BehaviourFlags, InspectConfig, Remote, flags.Common)
    return read_settings(argv, records, prog, ABOUT, settled=settled)


def train_config(settings: Settings) -> TrainConfig | None:
    """Make the checked record of a training; None with ``--inspect``, which needs less.

    Raises:
        UsageError: Settings are missing or contradict each other; nothing was loaded so far.
    """
    look = settings.of(InspectConfig)
    if look.inspect:
        if (look.endpoint is None) != (look.model is None):
            raise UsageError("--endpoint URL and --model NAME go together: give both, or leave both out.")
        return None
    for name in ("json", "html", "endpoint"):
        if getattr(look, name):
            raise UsageError(f"--{name} belongs to --inspect: give that too, or leave it out.")
    config = settings.of(TrainConfig)
    if not config.data and not config.hub:
        raise UsageError("--data is missing: give a folder or file of trajectories, or --hub NAME.")
    if config.save_merged is not None and config.save_merged == config.out:
        raise UsageError(f"--save-merged: found {config.out}, which is also --out. Name another folder.")
    if config.patience and not config.validation_fraction:
        raise UsageError("--patience: needs validation sessions. Give --validation-fraction too, such as 0.1.")
    return config
