"""The flags of ``sekft-train``: those of a training, and those of ``--inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the settings' types are read at run time
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import flags
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.flags import Common
from tiararodney.sekft.residents import Remote
from tiararodney.sekft.settings import Settings, read_settings, setting
from tiararodney.sekft.sft.config import TrainConfig, check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ABOUT = "Train a LoRA adapter on recorded sessions, or show what would be trained (--inspect)."
ONLY_INSPECTION = ("json", "html", "endpoint")


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

    @property
    def sources(self) -> list[str]:
        """Where the data comes from."""
        return [*map(str, self.data), *self.hub]


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
    return read_settings(
        argv, (TrainConfig, BehaviourFlags, InspectConfig, Remote, Common), prog, ABOUT, settled=settled
    )


def train_config(settings: Settings) -> TrainConfig | None:
    """Make the checked record of a training.

    Args:
        settings: What was read.

    Returns:
        The configuration; None with ``--inspect``, which needs less.

    Raises:
        UsageError: Settings are missing or contradict each other.
    """
    look = settings.of(InspectConfig)
    if look.inspect:
        _check_endpoint(look)
        return None
    for name in ONLY_INSPECTION:
        if getattr(look, name):
            raise UsageError(f"--{name} belongs to --inspect: give that too, or leave it out.")
    config = settings.of(TrainConfig)
    check(config)
    return config


def _check_endpoint(look: InspectConfig) -> None:
    if look.endpoint is None:
        if look.model is not None:
            raise UsageError("--model names a model of an endpoint: give --endpoint URL too.")
        return
    if look.model is None:
        raise UsageError("--endpoint needs --model NAME: the model's name on the server.")
