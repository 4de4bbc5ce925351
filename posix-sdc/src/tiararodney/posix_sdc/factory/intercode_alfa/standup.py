"""A file system of the package as fixtures: its set-up script is run in a world, and what it leaves is taken."""

from __future__ import annotations

import base64
import binascii
import io
import re
import tarfile
import time
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.records.schema import Announcement, Checker, Fixture, Provider, Scenario
from tiararodney.posix_sdc.worlds.filesystem import EPOCH
from tiararodney.posix_sdc.worlds.protocol import Limits, open_world
from tiararodney.posix_sdc.worlds.shell import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.posix_sdc.factory.intercode_alfa.package import FileSystem

# What a task may not change, or the package does not look at either: the system's folders and people's homes.
_SYSTEM = """
bin boot dev etc home lib lib32 lib64 libx32 lost+found media mnt opt proc root run sbin srv sys tmp usr var .dockerenv
"""
SYSTEM = tuple(_SYSTEM.split())
_LIMITS = Limits(command_seconds=60, output_bytes=16 * 1024**2)
_DAY = 86400
_MADE = re.compile(r"^\s*mkdir\s+(?:-\S+\s+)*(/[^/\s]+)", re.MULTILINE)
# Archives hold the time of their members: the world's own, so that the same script gives the same bytes.
_SET_UP = f'tar() {{ command tar "$@" --mtime=@{EPOCH}; }}; gzip() {{ command gzip -n "$@"; }}; . '
_PACKED = "cd / && find . -mindepth 1 -maxdepth 1 PRUNED -print0 | tar -c --null -T - | base64 -w0"


def world_of(fixtures: Sequence[Fixture], variables: Mapping[str, str]) -> Scenario:
    """Return a scenario that holds these fixtures and asks for nothing; its session begins in ``/``."""
    return Scenario(
        id="intercode-alfa",
        version="",
        archetype="intercode_alfa",
        terminal="exit",
        split="holdout",
        environment=variables,
        workdir="/",
        generator_model="",
        provider=Provider(""),
        announcement=Announcement("motd", ""),
        directives=(),
        fixtures=tuple(fixtures),
        checker=Checker("true"),
        reference_solution=(),
    )


def stand_up(system: FileSystem, runtime: str) -> tuple[Fixture, ...]:
    """Return a file system as fixtures, the session's user's, among them the root folder, which it may write to.

    What the script dates keeps its date; everything else has the time that everything in a world has.

    Args:
        system: one of the package's.
        runtime: where its script is run.

    Raises:
        InfrastructureError: the script's world failed, or what it left cannot be read.
    """
    root = Fixture("/", kind="dir", mode="1777", owner="root")
    script = Fixture(system.script_path, system.script, mode="755")
    folders = [Fixture(path, kind="dir") for path in dict.fromkeys(_MADE.findall(system.script))]
    with open_world(world_of([root, script, *folders], system.variables), runtime, _LIMITS) as world:
        world.run(f"/bin/bash -c {quoted(_SET_UP + system.script_path)} >/dev/null 2>&1")
        pruned = " ".join(f"! -name {name}" for name in SYSTEM)
        packed = world.run(_PACKED.replace("PRUNED", pruned)).output
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed.strip(), validate=True))) as tar:
            found = [_fixture(tar, member) for member in tar]
    except (binascii.Error, tarfile.TarError) as error:
        raise InfrastructureError(f"what {system.script_path} left cannot be read: {error}") from error
    return (root, *sorted(found, key=lambda f: f.path))


def _fixture(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Fixture:
    path, mode = "/" + member.name.removeprefix("./"), f"{member.mode & 0o1777:o}"
    if member.isdir():
        return Fixture(path, kind="dir", mode=mode)
    if member.issym():
        return Fixture(path, kind="symlink", target=member.linkname)
    file = tar.extractfile(member)
    content = (file.read() if file else b"").decode("utf-8", "surrogateescape")
    dated = member.mtime < time.time() - _DAY and member.mtime != EPOCH
    return Fixture(path, content, mode=mode, mtime=int(member.mtime) if dated else 0)
