"""What a record says about its making."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

from tiararodney.sekft import provenance


def test_versions_are_those_installed_and_missing_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("transformers", "no-such-package-at-all"))
    assert provenance.versions() == {
        "python": platform.python_version(),
        "transformers": metadata.version("transformers"),
    }


def test_the_revision_is_the_checkouts_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git")
    file = tmp_path / "package" / "provenance.py"
    file.parent.mkdir()
    file.write_text("")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(provenance, "__file__", str(file))
    assert provenance.git_revision() == commit
    file.write_text("changed")
    assert provenance.git_revision() == f"{commit}-dirty"


def test_a_package_without_a_checkout_has_no_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.git_revision() is None


def test_the_time_is_utc_and_memory_is_in_bytes() -> None:
    assert abs(datetime.fromisoformat(provenance.now()) - datetime.now(UTC)) < timedelta(seconds=5)
    before = provenance.peak_memory()
    held = bytearray(64 * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    assert provenance.peak_memory() - before > 32 * 2**20 or before > 128 * 2**20
