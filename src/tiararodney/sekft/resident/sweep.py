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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import provenance
from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.eval.config import parse
from tiararodney.sekft.eval.report import p_text, rate_text
from tiararodney.sekft.eval.statistics import holm
from tiararodney.sekft.folders import check_folder, write_whole
from tiararodney.sekft.resident.runs import check_training, claim, evaluate_all, flags, train_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1  # of leaderboard.json
KEYS = ("out", "train", "eval", "grid", "runs")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.,+-]*")  # no "=": --adapter NAME=DIR


@dataclass(frozen=True)
class Sweep:
    """What a file asks for.

    Args:
        out: folder of everything.
        evaluation: settings of the evaluation.
        runs: settings of each training, by the run's name.
    """

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
    except OSError as error:
        raise UsageError(f"sweep {file}: {error.strerror}. Give a readable YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"sweep {file}: not YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(data, dict) or not data.keys() <= set(KEYS):
        found = sorted(map(str, data.keys() - set(KEYS))) if isinstance(data, dict) else type(data).__name__
        raise UsageError(f"sweep {file}: found {found}, expected the keys {', '.join(KEYS)}.")
    parts = {key: _mapping(file, key, data.get(key)) for key in ("train", "eval", "grid")}
    if not data.get("out"):
        raise UsageError(f"sweep {file}: out is missing. Name the folder of the results.")
    runs: dict[str, dict[str, Any]] = {}
    for name, settings in [*_grid(file, parts["grid"]), *_listed(file, data.get("runs"))]:
        if name in runs or name in ("base", "eval") or not _NAME.fullmatch(name):
            raise UsageError(
                f"sweep {file}: found the run name {name!r}, expected each name once, of letters, digits and -_.,+."
            )
        runs[name] = parts["train"] | settings
    if not runs:
        raise UsageError(f"sweep {file}: found no run. Give runs: a list, or grid: lists of values.")
    return Sweep(Path(str(data["out"])), parts["eval"], runs)


def _mapping(file: Path, key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"sweep {file}: {key}: found {type(value).__name__}, expected settings such as 'seed: 1'.")
    return {str(name).replace("_", "-"): item for name, item in value.items()}


def _grid(file: Path, grid: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every combination of the values, the last setting changing fastest."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"sweep {file}: grid: {key}: found {values!r}, expected a list of values.")
    if not grid:
        return []
    combined = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [(re.sub(r"[^\w.,+-]", "-", ",".join(f"{k}-{v}" for k, v in one.items())), one) for one in combined]


def _listed(file: Path, runs: Any) -> list[tuple[str, dict[str, Any]]]:
    if runs is None:
        return []
    if not isinstance(runs, list):
        raise UsageError(f"sweep {file}: runs: found {type(runs).__name__}, expected a list of settings.")
    out = []
    for number, run in enumerate(runs, 1):
        settings = _mapping(file, f"runs, number {number}", run)
        out.append((str(settings.pop("name", f"run-{number}")), settings))
    return out


def run_sweep(resident: Resident, sweep: Sweep) -> int:
    """Train and evaluate what has no result yet, and write the leaderboard after each run.

    Args:
        resident: with the base.
        sweep: what to do.

    Returns:
        0, or 1 where a run failed; the others go on.

    Raises:
        UsageError: a setting cannot be used; found before the first run.
    """
    check_folder(sweep.out, f"out {sweep.out}")
    parse([*flags(sweep.evaluation), "--out=unused"], "sweep: eval", resident.base.settings())
    for name, settings in sweep.runs.items():
        check_training(resident, flags(settings), f"sweep: run {name}")
        # what one writes as 1e-4 or 0.0001 is the same
        claim(sweep.out / name / "run.json", {"settings": json.loads(json.dumps(settings, default=str))})
    trained: dict[str, Path] = {}
    failed: dict[str, str] = {}
    report: dict[str, Any] | None = None
    for number, (name, settings) in enumerate(sweep.runs.items(), 1):
        log.info("sweep: run %d of %d: %s", number, len(sweep.runs), name)
        adapter = sweep.out / name / "adapter"
        try:
            train_once(resident, flags(settings), adapter)
        except SekftError as error:
            log.error("sweep: run %s failed: %s", name, error)  # noqa: TRY400 - a message, not a defect
            failed[name] = str(error)
        else:
            trained[name] = adapter
            report = evaluate_all(resident, flags(sweep.evaluation), trained, sweep.out / "eval", "sweep: eval")
        write_leaderboard(sweep, leaderboard(sweep, report, failed))
    board = leaderboard(sweep, report, failed)
    print("\n".join(table(board)))
    print(f"\nleaderboard: {sweep.out / 'leaderboard.html'}")
    if not trained:
        raise RunFailed("sweep: every run failed; the reasons stand above.")
    return int(bool(failed))


def leaderboard(sweep: Sweep, report: Mapping[str, Any] | None, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the runs in the order of their success rates, as JSON values.

    Each difference from the base is over the same worlds (McNemar's exact test); the p-values are corrected for the
    number of runs by Holm's method.

    Args:
        sweep: what was asked for.
        report: of the evaluation, None where nothing was evaluated.
        failed: why runs failed, by name.
    """
    models = {m["name"]: m for m in report["models"]} if report else {}
    pairs = {p["second"]: p["rates"]["success"] for p in report["paired"]} if report else {}
    adjusted = holm({name: pair["p_value"] for name, pair in pairs.items()})
    rows = [
        {
            "name": name,
            "settings": dict(sweep.runs[name]) if name in sweep.runs else {},
            "rates": model["rates"],
            "against_base": pairs[name] | {"p_holm": adjusted[name]} if name in pairs else None,
            "training": _training(sweep.out / name / "adapter"),
        }
        for name, model in models.items()
    ]
    rows.sort(key=lambda row: [-(row["rates"][k]["value"] or 0.0) for k in ("success", "verified", "operate")])
    waiting = [name for name in sweep.runs if name not in models and name not in failed]
    about = {"worlds": report["scenarios"]["n"] if report else 0, "runtime": report["runtime"] if report else ""}
    return {
        "schema_version": SCHEMA_VERSION,
        "written": provenance.now(),
        **about,
        "rows": rows,
        "failed": dict(failed),
        "waiting": waiting,
        "versions": provenance.versions(),
    }


def _training(adapter: Path) -> dict[str, Any] | None:
    """What a training came to, of its record."""
    if not (adapter / "training.json").is_file():
        return None
    record = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    lines = (adapter / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
    result = record["result"]
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


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines; a row with fewer cells is text from its last cell on."""
    width = max(map(len, rows))
    whole = [row for row in rows if len(row) == width]
    widths = [max(len(row[i]) for row in whole) for i in range(width)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]


def write_leaderboard(sweep: Sweep, board: Mapping[str, Any]) -> None:
    """Write ``leaderboard.json`` and ``leaderboard.html``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    write_whole(sweep.out / "leaderboard.json", json.dumps(board, indent=2, ensure_ascii=False) + "\n")
    environment = Environment(
        loader=PackageLoader(__package__ or "", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("leaderboard.html.jinja").render(board=board, cells=cells)
    write_whole(sweep.out / "leaderboard.html", page)
