"""The Pipfile, its lock and what pipenv needs besides say the same as the two pyproject files."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PIPFILE = ROOT / "Pipfile"
pytestmark = pytest.mark.skipif(not PIPFILE.is_file(), reason="needs the repository")


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def name(requirement: str) -> str:
    return re.split(r"[<>=~;\[ ]", requirement)[0]


def test_the_gpu_category_is_the_extra() -> None:
    extra = toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]["gpu"]
    assert {name(requirement) for requirement in extra} == set(toml(PIPFILE)["gpu"])


def test_the_lock_is_of_this_pipfile_and_names_no_host() -> None:
    text = (ROOT / "Pipfile.lock").read_text(encoding="utf-8")
    locked = json.loads(text)
    assert locked["_meta"]["sources"] == []
    assert "://" not in text
    assert '"index"' not in text
    assert set(toml(PIPFILE)["gpu"]) <= {key.replace("-", "_") for key in locked["gpu"]} | set(locked["gpu"])
    assert locked["gpu"]["torch"]["version"] == toml(PIPFILE)["gpu"]["torch"]
    needed = toml(ROOT / "pyproject.toml")["project"]["dependencies"]
    needed += toml(ROOT / "posix-sdc" / "pyproject.toml")["project"]["dependencies"]
    assert {name(requirement) for requirement in needed} <= set(locked["default"])


def test_pipenv_finds_posix_sdc_without_an_index() -> None:
    """`pipenv install -e '.[gpu]'` resolves sekft alone: its other half comes from the page that .env names."""
    page = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env").read_text(), re.MULTILINE))["PIP_FIND_LINKS"]
    (link, fragment), *more = re.findall(r'href="([^"#]+)#egg=([^"]+)"', (ROOT / page).read_text())
    assert not more
    project = toml((ROOT / page).parent / link / "pyproject.toml")["project"]
    assert fragment == f"{project['name']}-{project['version']}"
