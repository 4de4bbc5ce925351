"""The card of a data set folder: front matter that the hub reads, and counts of what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.records.files import BOTH, FOLDERS
from tiararodney.posix_sdc.records.stats import QUANTILES, SHARES, statistics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The hub's size categories, by the number of rows below which each holds.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_ABOUT = {
    "scenarios": "worlds: what each starts with, where its directives are announced, the program that hands them out, "
    "the directives in words, a checker that judges the world's final state, and a reference solution. "
    "`environment`, `provider`, `announcement`, `directives`, `fixtures` and `checker` are JSON strings.",
    "trajectories": "recorded sessions: a system turn with facts about the terminal, `user` turns with what the "
    "terminal shows, `assistant` turns with one command each, the last one `exit` or `panic REASON`. `verified` is the "
    "checker's word on the state that the session left; `keep` says that it ended rightly, was verified, and held "
    "nothing but commands. `train` says of each turn whether it may be a target: a mistake that is put right later is "
    "context only. `meta` is a JSON string.",
}

_HEAD = """\
Sessions of an operator at a POSIX shell, and the worlds they were played in. Nothing in a session says what to do: the
operator finds out where directives are announced, learns the program that hands them out from its own documentation,
does the work and ends the session itself, with `exit`, or with `panic` where the work cannot be done. In a third of the
worlds the announcement has to be looked for, in a half the work takes an invented utility that only its own
documentation explains, and in some the work lies in another folder.

The split `train` is meant for training, `test` for evaluation: what it holds (archetypes, providers, announcements,
utilities) training never shows. Its rows say `holdout` in the column `split`.
"""


def card(folder: Path) -> str:
    """Return the card of a data set folder.

    Args:
        folder: holds ``scenarios/*.parquet``, ``trajectories/*.parquet`` or both.
    """
    parts = statistics(folder)
    return "".join(
        [_front_matter(parts, folder), "\n# POSIX shell sessions\n\n", _HEAD, *(_part(k, v) for k, v in parts.items())]
    )


def _front_matter(parts: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    rows = max(part["n"] for part in parts.values())
    lines = [
        "---",
        "pretty_name: POSIX shell sessions",
        "language:",
        "- en",
        "task_categories:",
        "- text-generation",
        "tags:",
        "- shell",
        "- posix",
        "- agent",
        "size_categories:",
        f"- {next((name for below, name in _SIZES if rows < below), '1M<n<10M')}",
        "configs:",
    ]
    for name in FOLDERS[BOTH]:
        if name not in parts:
            continue
        lines += [f"- config_name: {name}"]
        # Sessions are what a reader gets who names no configuration, worlds where there are none.
        lines += ["  default: true"] if name == "trajectories" or len(parts) == 1 else []
        lines += ["  data_files:"]
        for split in ("train", "test"):
            if list((folder / name).glob(f"{split}-*.parquet")):
                lines += [f"  - split: {split}", f"    path: {name}/{split}-*.parquet"]
    return "\n".join([*lines, "---", ""])


def _part(name: str, counts: Mapping[str, Any]) -> str:
    lines = [f"\n## {name}\n\n{counts['n']} {_ABOUT[name]}\n"]
    singles = [
        f"{axis.replace('_', ' ')}: {v}" for axis, v in counts.items() if not isinstance(v, dict) and axis != "n"
    ]
    lines.append("\n" + ", ".join(singles) + "\n")
    for axis, values in counts.items():
        if axis in QUANTILES:
            lines.append(f"\n{axis}: " + ", ".join(f"{key} {value}" for key, value in values.items()) + "\n")
        elif axis in SHARES:
            lines.append(f"\n| {axis} | |\n| --- | ---: |\n")
            lines += [f"| {_cell(key)} | {value} |\n" for key, value in values.items()]
        elif isinstance(values, dict):
            lines.append(f"\n| {axis.replace('_', ' ')} | rows |\n| --- | ---: |\n")
            lines += [f"| {_cell(key)} | {count} |\n" for key, count in values.items()]
    return "".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
