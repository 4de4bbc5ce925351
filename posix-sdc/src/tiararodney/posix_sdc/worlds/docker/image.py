"""Builds the image that docker worlds are made of: a small Debian with a POSIX user land and the session's user."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.worlds.docker import engine
from tiararodney.posix_sdc.worlds.docker.engine import IMAGE
from tiararodney.posix_sdc.worlds.filesystem import HOME, UID, USER

if TYPE_CHECKING:
    import docker

METHODS = ("auto", "dockerfile", "debootstrap")
RELEASE = "bookworm"
# What a person expects of a small server beyond Debian's minimal base.
PACKAGES = ("procps", "bc", "file", "make", "xz-utils", "bzip2", "patch")
# Documentation, translations and package lists: nothing a world needs (its `man` reads pages of its own).
_BALLAST = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/lintian",
)
_CACHES = ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/log", "tmp", "run")

_log = logging.getLogger(__name__)

DOCKERFILE = f"""\
FROM debian:{RELEASE}-slim
RUN apt-get update && apt-get install -y --no-install-recommends {" ".join(PACKAGES)} \\
    && rm -rf /var/lib/apt/lists/* \\
    && groupadd -g {UID} {USER} && useradd -u {UID} -g {UID} -d {HOME} -m -s /bin/sh {USER}
"""


def build(method: str = "auto", tag: str = IMAGE, mirror: str = "") -> str:
    """Build the world image in the engine at hand.

    Args:
        method: ``dockerfile`` (the base comes from a registry), ``debootstrap`` (a Debian root is made here, which
            takes root and Debian's packages), or ``auto`` for the first that works.
        tag: the image's name; worlds are made of `IMAGE`.
        mirror: Debian mirror for debootstrap; empty for the one that this machine's apt uses.

    Returns:
        The image's id.

    Raises:
        UsageError: no engine, or the method cannot work on this machine.
        InfrastructureError: the build failed.
    """
    if method not in METHODS:
        raise UsageError(f"found method {method!r}, expected one of {', '.join(METHODS)}.")
    if len(engine.hosts()) > 1:
        raise UsageError("DOCKER_HOST names several engines. Build the image in each: DOCKER_HOST=ONE posix-sdc image.")
    try:
        client = engine.connect()
    except InfrastructureError as error:
        raise UsageError(f"no container engine to build an image in: {error}") from None
    if method != "debootstrap":
        try:
            return _from_dockerfile(client, tag)
        except InfrastructureError as error:
            if method == "dockerfile":
                raise
            _log.info("no base image to be had (%s): making one with debootstrap", str(error)[:200])
    return _from_debootstrap(client, tag, mirror)


def _from_dockerfile(client: docker.DockerClient, tag: str) -> str:
    import io

    from docker.errors import DockerException

    try:
        image, _ = client.images.build(fileobj=io.BytesIO(DOCKERFILE.encode()), tag=tag, rm=True, forcerm=True)
    except (DockerException, OSError) as error:
        raise InfrastructureError(f"the image cannot be built from its Dockerfile: {error}") from None
    return str(image.id)


def _from_debootstrap(client: docker.DockerClient, tag: str, mirror: str) -> str:
    import os

    if shutil.which("debootstrap") is None:
        raise UsageError(
            "found no debootstrap on this machine, and no registry with a base image. Install debootstrap."
        )
    if os.geteuid() != 0:
        raise UsageError("debootstrap needs root. Run `posix-sdc image` as root, or where a registry can be reached.")
    owner.clear(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=owner.prefix()) as folder:
        root = Path(folder, "root")
        line = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(root)]
        mirror = mirror or apt_mirror()
        _run([*line, mirror] if mirror else line)
        _finish(root)
        archive = Path(folder, "root.tar")
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".")
        return _import(client, archive, tag)


def _finish(root: Path) -> None:
    """Take out what no world needs and add the session's user."""
    for name in (*_BALLAST, *_CACHES):
        for path in Path(root, name).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with Path(root, "etc/passwd").open("a") as file:
        file.write(f"{USER}:x:{UID}:{UID}:{USER}:{HOME}:/bin/sh\n")
    with Path(root, "etc/group").open("a") as file:
        file.write(f"{USER}:x:{UID}:\n")
    Path(root, HOME[1:]).mkdir(parents=True)
    shutil.chown(Path(root, HOME[1:]), UID, UID)
    # The host's own name server and name are none of the world's business.
    for name in ("etc/resolv.conf", "etc/hostname"):
        Path(root, name).unlink(missing_ok=True)


def _import(client: docker.DockerClient, archive: Path, tag: str) -> str:
    from docker.errors import DockerException

    name, _, version = tag.rpartition(":")
    changes = ['CMD ["/bin/sh"]', "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    try:
        client.api.import_image_from_file(str(archive), repository=name, tag=version, changes=changes)
        return str(client.images.get(tag).id)
    except (DockerException, OSError) as error:
        raise InfrastructureError(f"the image cannot be imported: {error}") from None


def apt_mirror() -> str:
    """Return the Debian mirror of this machine's apt, empty when it has none."""
    line = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Identifier: Packages"]
    try:
        text = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.findall(rf"^{RELEASE} (\S+)$", text, re.MULTILINE)
    return found[0] if found else ""


def _run(line: list[str]) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfrastructureError(
            f"{line[0]} failed with {done.returncode}: {(done.stdout + done.stderr)[-1000:].strip()}"
        )
