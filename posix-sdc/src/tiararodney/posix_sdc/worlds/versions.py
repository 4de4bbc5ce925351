"""The software of a runtime's worlds: the image's digest, or the versions of the host's utilities."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

# Whose behaviour a session depends on, by Debian's package and by program.
_PACKAGES = ("dash", "coreutils", "sed", "grep", "mawk", "gawk", "findutils", "diffutils", "tar", "gzip", "procps")
_PROGRAMS = ("dash", "ls", "sed", "grep", "awk", "find", "cmp", "tar", "gzip", "ps")
_DIGITS = 12  # of a program's digest


@lru_cache
def made_of(runtime: str) -> dict[str, str]:
    """Return the software of a runtime's worlds; read once per process.

    Args:
        runtime: ``docker``: the image's digest. ``bwrap``: the host's packages with their versions where dpkg knows
            them, else the programs with the beginning of their SHA-256. Any other: nothing.
    """
    if runtime == "docker":
        return _image()
    return (_packages() or _digests()) if runtime == "bwrap" else {}


def _image() -> dict[str, str]:
    from docker.errors import DockerException

    from tiararodney.posix_sdc.worlds.docker.engine import IMAGE, connect

    try:
        client = connect()
        try:
            return {"image": IMAGE, "digest": str(client.images.get(IMAGE).id)}
        finally:
            client.close()
    except (DockerException, OSError):
        return {"image": IMAGE}


def _packages() -> dict[str, str]:
    query = shutil.which("dpkg-query")
    if query is None:
        return {}
    line = [query, "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n", *_PACKAGES]
    listing = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    rows = (row.split() for row in listing.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}  # noqa: PLR2004 - as asked for


def _digests() -> dict[str, str]:
    found = {name: shutil.which(name, path="/usr/bin:/bin") for name in _PROGRAMS}
    return {name: hashlib.sha256(Path(path).read_bytes()).hexdigest()[:_DIGITS] for name, path in found.items() if path}
