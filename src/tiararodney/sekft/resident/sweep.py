"""`sweep FILE.yaml`: many trainings, each evaluated against the base in the same worlds, in one leaderboard.

out: sweep
train: {data: trajectories, epochs: 2}          # settings of every training, as flags
eval: {scenarios: worlds/holdout, n: 32}        # settings of the evaluation
grid: {learning-rate: [1e-4, 5e-4], lora-r: [8, 16]}
runs:                                           # further runs, or instead of a grid
  - {name: dora, use-dora: true}
"""

from __future__ import annotations

import itertools
import json
import logging
import re
from pathlib import Path  # noqa: TC003 - pydantic reads the types at run time
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from tiararodney.sekft import provenance
from tiararodney.sekft.console import aligned
from tiararodney.sekft.endpoint import PosixSdcError
from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.eval.config import parse
from tiararodney.sekft.eval.exports import from_template
from tiararodney.sekft.eval.report import p_text, rate_text
from tiararodney.sekft.eval.run import claim
from tiararodney.sekft.eval.statistics import holm
from tiararodney.sekft.folders import check_folder, write_whole
from tiararodney.sekft.resident.runs import check_training, evaluate_all, flags, train_once

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1  # of leaderboard.json
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.,+-]*")  # no "=": --adapter NAME=DIR


class _File(BaseModel):
    """What may stand in a file."""

    model_config = ConfigDict(extra="forbid")
    out: Path
    train: dict[str, Any] = {}
    eval: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    runs: list[dict[str, Any]] = []


class Sweep(NamedTuple):
    """What a file asks for: the folder of everything, the evaluation's settings, and each training's by its name."""

    out: Path
    evaluation: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Any]]


def read_sweep(file: Path) -> Sweep:
    """Read a sweep.

    Raises:
        UsageError: the file cannot be read or says something else than a sweep.
    """
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        given = _File.model_validate({k: v for k, v in data.items() if v is not None} if type(data) is dict else data)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}. Give a readable YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not YAML ({str(error).splitlines()[0]}).") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, keys = ".".join(map(str, first["loc"])) or "the file", ", ".join(_File.model_fields)
        found = f"{where}: found {first['input']!r}. {first['msg']}"
        raise UsageError(f"{file}: {found}. A sweep has the keys {keys}.") from None
    grid = [dict(zip(given.grid, values, strict=True)) for values in itertools.product(*given.grid.values())]
    named = [(re.sub(r"[^\w.,+-]", "-", ",".join(f"{k}-{v}" for k, v in one.items())), one) for one in grid if one]
    named += [(str(run.pop("name", f"run-{number}")), run) for number, run in enumerate(given.runs, 1)]
    for name, _ in named:
        if [n for n, _ in named].count(name) > 1 or name in ("base", "eval") or not _NAME.fullmatch(name):
            raise UsageError(
                f"{file}: found the run name {name!r}, expected each name once, of letters, digits and -_.,+."
            )
    if not named:
        raise UsageError(f"{file}: found no run. Give runs: a list, or grid: lists of values.")
    runs = {name: [*given.train.items(), *one.items()] for name, one in named}
    return Sweep(given.out, given.eval, {name: {k.replace("_", "-"): v for k, v in run} for name, run in runs.items()})


def run_sweep(resident: Resident, sweep: Sweep) -> int:
    """Train and evaluate what has no result yet, and write the leaderboard after each run.

    Returns:
        0, or 1 where a run failed; the others go on.

    Raises:
        UsageError: a setting cannot be used; found before the first run.
    """
    check_folder(sweep.out, f"out {sweep.out}")
    argv = [*flags(sweep.evaluation), f"--out={sweep.out / 'eval'}"]
    evaluation = parse(argv, "sweep: eval", resident.base.settings())
    for name, settings in sweep.runs.items():
        check_training(resident, flags(settings), f"sweep: run {name}")
        # what one writes as 1e-4 or 0.0001 is the same
        claim(sweep.out / name / "run.json", {"sweep": {"settings": json.loads(json.dumps(settings, default=str))}})
    trained: dict[str, Path] = {}
    failed: dict[str, str] = {}
    report: dict[str, Any] | None = None
    for number, (name, settings) in enumerate(sweep.runs.items(), 1):
        log.info("sweep: run %d of %d: %s", number, len(sweep.runs), name)
        adapter = sweep.out / name / "adapter"
        try:
            train_once(resident, flags(settings), adapter)
        except (SekftError, PosixSdcError) as error:
            log.error("sweep: run %s failed: %s", name, error)  # noqa: TRY400 - a message, not a defect
            failed[name] = str(error)
        else:
            trained[name] = adapter
            report = evaluate_all(resident, evaluation, trained)
        board = leaderboard(sweep, report, failed)
        write_leaderboard(sweep, board)
    print("\n".join(table(board)))
    print(f"\nleaderboard: {sweep.out / 'leaderboard.html'}")
    if not trained:
        raise RunFailed("sweep: every run failed; the reasons stand above.")
    return int(bool(failed))


def leaderboard(sweep: Sweep, report: Mapping[str, Any] | None, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the runs in the order of their success rates, as JSON values.

    Each difference from the base is over the same worlds (McNemar's exact test); the p-values are corrected for the
    number of runs by Holm's method. `report` is None where nothing was evaluated; `failed` says why runs failed.
    """
    models = {m["name"]: m for m in report["models"]} if report else {}
    pairs = {p["second"]: p["rates"]["success"] for p in report["paired"]} if report else {}
    adjusted = holm({name: pair["p_value"] for name, pair in pairs.items()})
    rows = [
        {
            "name": name,
            "settings": dict(sweep.runs.get(name, {})),
            "rates": model["rates"],
            "against_base": pairs[name] | {"p_holm": adjusted[name]} if name in pairs else None,
            "training": _training(sweep.out / name / "adapter"),
        }
        for name, model in models.items()
    ]
    rows.sort(key=lambda row: [-(row["rates"][k]["value"] or 0.0) for k in ("success", "verified", "operate")])
    return {
        "schema_version": SCHEMA_VERSION,
        "written": provenance.now(),
        "worlds": report["scenarios"]["n"] if report else 0,
        "runtime": report["runtime"] if report else "",
        "rows": rows,
        "failed": dict(failed),
        "waiting": [name for name in sweep.runs if name not in models and name not in failed],
        "versions": provenance.versions(),
    }


def _training(adapter: Path) -> dict[str, Any] | None:
    """What a training came to, of its record."""
    if not (adapter / "training.json").is_file():
        return None
    record = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    lines = (adapter / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    losses, result = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry], record["result"]
    return {"steps": result["step"], "seconds": result["seconds"], "loss": losses[-1] if losses else None}


def table(board: Mapping[str, Any]) -> list[str]:
    """Return the leaderboard as aligned lines."""
    rows = [["", "run", "success", "verified", "operate", "against base", "p (Holm)", "loss", "seconds"]]
    rows += [[str(place), *cells(row)] for place, row in enumerate(board["rows"], 1)]
    rows += [["-", name, f"failed: {why.splitlines()[0]}"] for name, why in board["failed"].items()]
    return aligned(rows)


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return what both the table and the page show of a run."""
    training, pair = row["training"] or {}, row["against_base"]
    loss, seconds = training.get("loss"), training.get("seconds")
    return [
        row["name"],
        *(rate_text(row["rates"][name]) for name in ("success", "verified", "operate")),
        "" if pair is None or pair["difference"] is None else f"{pair['difference']:+.2f}",
        "" if pair is None else p_text(pair["p_holm"]),
        "" if loss is None else f"{loss:.4f}",
        "" if seconds is None else f"{seconds:.0f}",
    ]


def write_leaderboard(sweep: Sweep, board: Mapping[str, Any]) -> None:
    """Write ``leaderboard.json`` and ``leaderboard.html``."""
    write_whole(sweep.out / "leaderboard.json", json.dumps(board, indent=2, ensure_ascii=False) + "\n")
    page = from_template(__package__ or "", "leaderboard.html.jinja", board=board, cells=cells)
    write_whole(sweep.out / "leaderboard.html", page)
