"""A resident with a tiny base, and something to train and to play on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tiararodney.sekft.resident.state import Resident


@pytest.fixture
def resident(tiny_base: Path) -> Resident:
    """Return a resident whose base is loaded."""
    from tiararodney.sekft.resident.cli import ResidentConfig, start

    return start(ResidentConfig(base=tiny_base, device="cpu", dtype="float32"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a file of curated sessions."""
    file = tmp_path / "sessions.jsonl"
    with file.open("w") as out:
        for i in range(4):
            messages = [
                {"role": "system", "content": "A terminal."},
                {"role": "user", "content": f"See tasks {i}\n$ "},
                {"role": "assistant", "content": f"tasks show {i}"},
                {"role": "user", "content": "nothing to do\n$ "},
                {"role": "assistant", "content": "exit"},
            ]
            out.write(json.dumps({"id": f"t{i}", "scenario_id": f"trained-{i}", "messages": messages}) + "\n")
    return file


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    """Return a folder of one bundle."""
    folder = tmp_path / "scenarios"
    folder.mkdir()
    bundle = {
        "id": "s0",
        "archetype": "repair",
        "terminal": "exit",
        "split": "holdout",
        "workdir": "/work",
        "provider": {"name": "tasks"},
        "announcement": {"kind": "motd", "text": "Run tasks."},
        "checker": {"script": "test -e done"},
        "reference_solution": ["touch done"],
    }
    (folder / "s0.json").write_text(json.dumps(bundle))
    return folder
