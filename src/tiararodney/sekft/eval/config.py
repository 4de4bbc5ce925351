"""The one frozen record that says what an evaluation does, and its reading from flags and ``--config``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path  # noqa: TC003 - the settings' types are read at run time
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import flags
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.flags import Common
from tiararodney.sekft.residents import Remote
from tiararodney.sekft.settings import Settings, read_settings, setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ABOUT = (
    "Evaluate a base model and its adapters in fresh POSIX worlds, without a scaffold. "
    "An interrupted run resumes: give the same command again."
)


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated, on what, and how. A field is a flag; its `setting` says what it means and what it takes."""

    scenarios: Path = setting(
        "scenario bundles: a folder, .json, .jsonl or .parquet", metavar="DIR|FILE", group="models, scenarios, output"
    )
    out: Path = setting("folder for episodes.jsonl, report.json and report.html", metavar="DIR")
    base: Path | None = flags.base()
    adapters: tuple[Path, ...] = setting(
        "adapter to compare with the base, with a name for the report if you like",
        default=(),
        flag="--adapter",
        metavar="[NAME=]DIR|HUB_ID",
    )
    no_base: bool = setting("do not evaluate the base itself", default=False)
    endpoint: tuple[str, ...] = setting(
        "evaluate a server of OpenAI chat completions instead (http://host:port/v1); several are replicas that share "
        "the sessions",
        default=(),
        metavar="URL",
    )
    models: tuple[str, ...] = setting("model of the endpoint", default=(), flag="--model")
    operator: str | None = setting(
        "play a script instead of a model; reference: what each bundle says, which shows that its world can be done",
        default=None,
        choices=("reference",),
    )
    tokenizer: Path | None = setting(
        "render prompts here with this adapter's (or base's) tokenizer and send the endpoint token ids "
        "(/v1/completions), so that its own template plays no part",
        default=None,
        metavar="DIR|HUB_ID",
    )
    api_key_env: str = flags.api_key_env()
    n: int | None = setting(
        "number of scenarios, spread over the archetypes (default: all)", default=None, also=("--limit",), above=0
    )
    split: str | None = setting(
        "only scenarios of this split (default: all)", default=None, choices=("train", "holdout")
    )
    load_4bit: bool = flags.load_4bit()
    no_base_cache: bool = flags.no_base_cache()
    device: str = flags.device()
    dtype: str = flags.dtype()
    kv_memory: float | None = flags.kv_memory()

    runtime: str = setting(
        "where worlds run; auto: docker if an engine answers, else bwrap",
        default="auto",
        choices=("auto", "docker", "bwrap"),
        group="sessions",
    )
    max_turns: int | None = setting(
        "most commands per session (default: by scenario, twice what its reference takes and ten more)",
        default=None,
        above=0,
    )
    max_new_tokens: int = setting("most tokens per reply", default=48, above=0)
    temperature: float = setting("sampling temperature; 0: greedy", default=0.0, at_least=0)
    seed: int = setting("random seed (sampling)", default=0, at_least=0)
    repeats: int = setting("sessions per scenario (give a --temperature above 0)", default=1, above=0)
    concurrency: int = setting("sessions played at once", default=16, also=("--batch-size",), above=0)
    command_seconds: float = setting("timeout of one command, in seconds", default=10.0, metavar="S", above=0)
    baselines: bool = setting(
        "also play operators that do nothing (exit at once, panic at once, prose), as what rates are read against",
        default=True,
    )
    allow_seen: bool = setting(
        "evaluate although an adapter was trained on some of the scenarios; the report says so", default=False
    )
    ignore_contract: bool = setting(
        "evaluate an adapter whose render contract (render.json) differs; the report says so", default=False
    )
    request_seconds: float = flags.request_seconds(default=120.0)

    by_archetype: bool = setting(
        "also show archetypes with fewer than five scenarios in the table", default=False, group="results"
    )
    json: bool = setting("print report.json instead of the table", default=False, group="results")
    junit: Path | None = setting("also write JUnit XML", default=None, metavar="FILE")
    log_format: str = setting(
        "inspect: also write OUT/inspect/MODEL.eval for `inspect view`", default="sekft", choices=("sekft", "inspect")
    )
    fail_under: tuple[str, ...] = setting(
        "exit 1 if this rate of an adapter (or of the base alone, or of an endpoint's model) is lower, for example "
        "success=0.5",
        default=(),
        metavar="RATE=SHARE",
    )


def read(argv: Sequence[str], prog: str = "sekft-eval", settled: Mapping[str, Any] | None = None) -> Settings:
    """Read flags and ``--config``; arguments and errors are those of `read_settings`."""
    return read_settings(argv, (EvalConfig, Remote, Common), prog, ABOUT, settled=settled)


def parse(argv: Sequence[str], prog: str = "sekft-eval", settled: Mapping[str, Any] | None = None) -> EvalConfig:
    """Read flags and ``--config`` into one checked record, as `read` and `checked` do."""
    return checked(read(argv, prog, settled))


def checked(settings: Settings) -> EvalConfig:
    """Return the record of an evaluation; settings that contradict each other are refused before anything is loaded.

    Raises:
        UsageError: naming the flag, what was found and what is expected.
    """
    config = settings.of(EvalConfig)
    thresholds(config.fail_under)
    local, served = config.base is not None or bool(config.adapters), bool(config.endpoint)
    if config.log_format == "inspect" and find_spec("inspect_ai") is None:
        raise UsageError("--log-format inspect needs the package inspect_ai: pip install inspect-ai")
    if config.repeats > 1 and config.temperature == 0:
        raise UsageError("--repeats: greedy repeats of a scenario are all the same. Give a --temperature above 0.")
    if config.operator is not None and (local or served):
        raise UsageError("--operator plays no model: evaluate --base, --adapter or --endpoint in another run.")
    if local and served:
        raise UsageError("--endpoint was given together with --base or --adapter: evaluate them in two runs.")
    if served and not config.models:
        raise UsageError("--endpoint needs --model NAME: the name under which the server knows the model.")
    if config.tokenizer is not None and not served:
        raise UsageError("--tokenizer goes with --endpoint: a local base has its own.")
    if config.models and not served:
        raise UsageError("--model names a model of an endpoint: give --endpoint URL, or --adapter DIR for an adapter.")
    if config.base is None and not served and config.operator is None:
        raise UsageError("--base is missing: give the folder of the base model, or --endpoint URL --model NAME.")
    if config.base is not None and config.no_base and not config.adapters:
        raise UsageError("--no-base leaves nothing to evaluate: give --adapter DIR.")
    return config


def thresholds(values: Sequence[str]) -> dict[str, float]:
    """Read the values of ``--fail-under``, ``RATE=SHARE`` each.

    Returns:
        The lowest share that each named rate may have, in [0, 1].

    Raises:
        UsageError: a value has another form.
    """
    from tiararodney.sekft.eval.outcomes import RATES

    out = {}
    for value in values:
        name, _, share = value.partition("=")
        name = name.strip().replace("-", "_").replace(" ", "_")
        try:
            out[name] = float(share)
        except ValueError:
            out[name] = -1.0  # no share either
        if name not in RATES or not 0 <= out[name] <= 1:
            raise UsageError(
                f"--fail-under: found {value!r}, expected RATE=SHARE, such as success=0.5. "
                f"Rates: {', '.join(RATES)}; a share lies in [0, 1]."
            )
    return out
