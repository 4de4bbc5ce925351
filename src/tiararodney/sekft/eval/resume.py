"""What a folder of episodes belongs to, so that a run resumes in its own folder and in no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.folders import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.report import Contestant
    from tiararodney.sekft.eval.worlds import Selection

_BOUND = ("max_turns", "max_new_tokens", "temperature", "seed", "load_4bit", "dtype", "tokenizer", "command_seconds")
"""Settings that an episode depends on: a run that resumes must have the same."""


def identity(
    config: EvalConfig,
    runtime: str,
    field: Sequence[Contestant],
    selection: Selection,
    precision: dict[str, str] | None,
) -> dict[str, dict[str, Any]]:
    """Return what an episode's result depends on."""
    values = config.to_json()
    if precision is not None:
        values["dtype"] = precision["dtype"]
    return {
        "settings": {"runtime": runtime} | {name: values[name] for name in _BOUND},
        "models": {c.name: c.fingerprint for c in field},
        "scenarios": selection.digests,
    }


def claim(file: Path, identity: dict[str, dict[str, Any]]) -> None:
    """Take a new folder, or go on in one whose episodes fit: more models or scenarios may come along, none may differ.

    Raises:
        UsageError: the folder holds episodes of another run.
    """
    before: dict[str, dict[str, Any]] = {part: {} for part in identity}
    if file.exists():
        try:
            before |= json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise UsageError(f"{file}: found no JSON, expected the record of a run. Give another --out.") from None
    elif (file.parent / "episodes.jsonl").exists():
        raise UsageError(f"--out {file.parent}: found episodes.jsonl but no run.json beside it. Give another --out.")
    for part, values in identity.items():
        for key, value in values.items():
            if before[part].get(key, value) != value:
                raise UsageError(
                    f"--out {file.parent} holds another run: {part}: {key} was {before[part][key]!r}, "
                    f"now it is {value!r}. Give another --out, or remove the folder."
                )
    merged = {part: before[part] | values for part, values in identity.items()}
    write_whole(file, json.dumps(merged, indent=2) + "\n")
