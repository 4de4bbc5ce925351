"""Initial files of a world, from a scenario and the session, as a list of entries and as a tar."""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.worlds import gateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tiararodney.posix_sdc.records.schema import Fixture, Scenario

USER, UID = "agent", 1000
HOME = f"/home/{USER}"
HOSTNAME = "host"
PATH = "/usr/local/bin:/usr/bin:/bin"
MAN_PAGES = "/usr/local/share/man"

# When everything in a world was last changed: a listing looks the same whenever a session is recorded.
EPOCH = 1_741_080_600  # 2025-03-04 09:30 UTC

# What belongs to the kernel or to the session's own plumbing: no fixture may lie there.
RESERVED = ("/proc", "/sys", "/dev", "/run")

# Directories that every machine has.
_SYSTEM = ("/etc", "/mnt", "/opt", "/srv", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool")

_STICKY, _OTHERS_WRITE = 0o1000, 0o2

_MAN = f"""\
#!/bin/sh
# Prints manual pages that are kept as plain text.
case "${{1-}}" in
    [1-9]) [ $# -gt 1 ] && shift ;;
esac
[ $# -gt 0 ] || {{ echo "What manual page do you want?" >&2; exit 1; }}
for name in "$@"; do
    page="{MAN_PAGES}/$name.txt"
    case "$name" in */*|-*) page=/nonexistent ;; esac
    [ -r "$page" ] || {{ echo "No manual entry for $name" >&2; exit 16; }}
    cat "$page"
done
"""

_ETC = {
    # The host's programs belong to ids that have no name inside; 65534 stands for all of these: they are root's.
    "passwd": f"root:x:0:0:root:/root:/bin/sh\n{USER}:x:{UID}:{UID}:{USER}:{HOME}:/bin/sh\n"
    "root:x:65534:65534:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\n{USER}:x:{UID}:\nroot:x:65534:\nnogroup:x:65534:\n",
    "hostname": f"{HOSTNAME}\n",
    "hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{HOSTNAME}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "shells": "/bin/sh\n",
}


@dataclass(frozen=True)
class Entry:
    """One file, directory, symbolic link or named pipe of a world.

    Args:
        path: absolute and normal.
        kind: ``file``, ``dir``, ``symlink`` or ``fifo``.
        mode: permission bits.
        root: it belongs to root, else to the session's user.
        data: the file's bytes, or the link's target.
        mtime: of its last change, in seconds since 1970.
    """

    path: str
    kind: str = "dir"
    mode: int = 0o755
    root: bool = True
    data: bytes = b""
    mtime: int = EPOCH


def environment(scenario: Scenario) -> dict[str, str]:
    """Return the session's environment variables: the login's own, then the scenario's, then the announcement's."""
    variables = {
        "HOME": HOME,
        "LOGNAME": USER,
        "PATH": PATH,
        "SHELL": "/bin/sh",
        "TERM": "dumb",
        "USER": USER,
        "LANG": "C.UTF-8",
    } | dict(scenario.environment)
    if scenario.announcement.kind == "env":
        variables[scenario.announcement.variable] = scenario.announcement.text
    for name, value in variables.items():
        if not name.isidentifier() or not name.isascii() or "\0" in value:
            raise _refused(scenario, f"environment[{name!r}]", repr(value)[:60], "a variable that a shell can hold")
    return variables


def entries(scenario: Scenario, *, base: bool) -> list[Entry]:
    """Return the world's initial entries, parents before children, each path once.

    Args:
        scenario: the bundle.
        base: with the minimal ``/etc`` that an image would have.

    Raises:
        SchemaError: a fixture lies where none can be put, or two of them cannot both exist.
    """
    found = {path: Entry(path) for path in ("/", *_SYSTEM)}
    found |= {path: Entry(path, mode=0o1777) for path in ("/tmp", "/var/tmp")}  # noqa: S108 - the world's, not ours
    if base:
        found |= _base()
    for path in ("/home", "/usr", "/usr/local", "/usr/local/bin", "/usr/local/share", MAN_PAGES):
        found[path] = Entry(path)
    found["/usr/local/bin/man"] = Entry("/usr/local/bin/man", "file", 0o755, data=_MAN.encode())
    found[HOME] = Entry(HOME, root=False)
    workdir = _place(scenario.workdir)
    _parents(found, workdir, root=True)
    found.setdefault(workdir, Entry(workdir, root=False))
    fixtures = [(f"provider.files[{i}]", f) for i, f in enumerate(scenario.provider.files)]
    fixtures += [(f"fixtures[{i}]", f) for i, f in enumerate(scenario.fixtures)]
    for field, fixture in sorted(fixtures, key=lambda pair: posixpath.normpath(pair[1].path).count("/")):
        _add(found, scenario, field, fixture)
    _announce(found, scenario)
    found |= {path: Entry(path, kind, mode, data=data) for path, kind, mode, data in gateway.files(_served(found))}
    for path in found:
        parent = found.get(posixpath.dirname(path))
        if parent is not None and parent.kind != "dir":
            here = f"{parent.path!r} as a {parent.kind}"
            raise _refused(scenario, "fixtures", here, f"a directory, as {path!r} is in it")
    return sorted(found.values(), key=lambda e: e.path.split("/"))


def _served(found: dict[str, Entry]) -> dict[str, bytes]:
    """Replace programs that run as root by clients, and return them."""
    programs = {path: e.data for path, e in found.items() if e.kind == "file" and e.root and e.mode & gateway.SETUID}
    for path in programs:
        found[path] = replace(found[path], mode=0o755, data=gateway.client(path))
    return programs


def _base() -> dict[str, Entry]:
    """Return the system files that an image would have."""
    files = {f"/etc/{n}": Entry(f"/etc/{n}", "file", 0o644, data=text.encode()) for n, text in _ETC.items()}
    return {"/root": Entry("/root", mode=0o700)} | files


def _announce(found: dict[str, Entry], scenario: Scenario) -> None:
    """Add the announcement's file, unless a fixture is that file already."""
    if scenario.announcement.kind != "file":
        return
    path = _place(scenario.announcement.path)
    if path not in found:
        _refuse_reserved(scenario, "announcement.path", path)
        _parents(found, path, root=True)
        found[path] = Entry(path, "file", 0o644, data=_text(scenario.announcement.text, newline=True))


def started(scenario: Scenario) -> list[str]:
    """Return the programs that run before the first prompt, the provider's first, in the bundle's order."""
    return [_place(f.path) for f in (*scenario.provider.files, *scenario.fixtures) if f.start]


def archive(items: Iterable[Entry], prefix: str = "", extra: Mapping[str, bytes] | None = None) -> bytes:
    """Return entries as a tar with owners and modes.

    Args:
        items: parents before children.
        prefix: put before each path, without a slash at its end.
        extra: more files, root's alone, by their path as it stands.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in (extra or {}).items():
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = len(data), 0o600, EPOCH
            tar.addfile(info, io.BytesIO(data))
        for entry in items:
            info = tarfile.TarInfo(prefix + entry.path)
            info.mode, info.mtime = entry.mode, entry.mtime
            info.uid = info.gid = 0 if entry.root else UID
            if entry.kind == "dir":
                info.type = tarfile.DIRTYPE
            elif entry.kind == "fifo":
                info.type = tarfile.FIFOTYPE
            elif entry.kind == "symlink":
                info.type, info.linkname = tarfile.SYMTYPE, entry.data.decode("utf-8", "surrogateescape")
            else:
                info.size = len(entry.data)
            tar.addfile(info, io.BytesIO(entry.data) if entry.kind == "file" else None)
    return out.getvalue()


def _place(path: str) -> str:
    """Return a normalised path with the links into ``/usr`` resolved."""
    path = "/" + posixpath.normpath(path).lstrip("/")
    return f"/usr{path}" if path.split("/")[1] in ("bin", "sbin", "lib", "lib64") else path


def _add(found: dict[str, Entry], scenario: Scenario, field: str, fixture: Fixture) -> None:
    path = _place(fixture.path)
    _refuse_reserved(scenario, f"{field}.path", path)
    root = fixture.owner == "root"
    everybody = int(fixture.mode, 8) & _OTHERS_WRITE and not int(fixture.mode, 8) & _STICKY
    if path == "/" and (not root or fixture.kind != "dir" or everybody):
        here = f"'/' as {fixture.owner}'s {fixture.kind} of mode {fixture.mode}"
        raise _refused(
            scenario, f"{field}.path", here, "a path below the root, or root's folder '/', sticky where all may write"
        )
    _parents(found, path, root=root)
    before = found.get(path)
    if before is not None and (before.kind == "dir") != (fixture.kind == "dir"):
        raise _refused(scenario, f"{field}.kind", f"{fixture.kind} {path!r}", f"a {before.kind}, as it is one already")
    if fixture.kind == "symlink" and (not fixture.target or "\0" in fixture.target):
        raise _refused(scenario, f"{field}.target", repr(fixture.target), "where the symlink points")
    data = _text(fixture.target if fixture.kind == "symlink" else fixture.content)
    data = b"" if fixture.kind == "dir" else data
    mode = int(fixture.mode, 8) & (0o1777 | (gateway.SETUID if root and fixture.kind == "file" else 0))
    found[path] = Entry(path, fixture.kind, mode, root, data, fixture.mtime or EPOCH)


def _parents(found: dict[str, Entry], path: str, *, root: bool) -> None:
    """Add the directories above a path; unnamed ones get the owner of the path."""
    names = posixpath.normpath(path).strip("/").split("/")[:-1]
    for n in range(1, len(names) + 1):
        parent = "/" + "/".join(names[:n])
        if parent not in found:
            # What every machine has is root's, whoever put something into it.
            found[parent] = Entry(parent, root=root or n == 1 or parent in _SYSTEM or parent.startswith("/usr/"))


def _refuse_reserved(scenario: Scenario, field: str, path: str) -> None:
    for place in RESERVED:
        if path == place or path.startswith(place + "/"):
            raise _refused(scenario, field, repr(path), f"a path outside {', '.join(RESERVED)}")


def _refused(scenario: Scenario, field: str, found: str, expected: str) -> SchemaError:
    return SchemaError(f"scenario {scenario.id!r}", field, found, expected)


def _text(text: str, *, newline: bool = False) -> bytes:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "replace")
    return data + b"\n" if newline and not data.endswith(b"\n") else data
