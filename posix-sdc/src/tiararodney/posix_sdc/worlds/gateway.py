"""Programs that run as root on behalf of the session: what the mode 4755 of a fixture means in a world.

A session can gain no rights (no-new-privs), and a script can't be set-user-ID anyway. So such a program lies where
only root can read it, a server started beside the session, out of its reach, runs it on request, and what the session
finds in its place is a client: it hands over its arguments and prints what comes back. The program gets the arguments,
an empty standard input and a clean environment; it returns its output, its errors and its exit status.

What root keeps for it (files of mode 600, folders of mode 700) can't be read by the session but through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY = "/run/gateway"
SERVER = f"{GATEWAY}/server"
SETUID = 0o4000
_SECONDS = 5  # for one request

# Fields end in the unit separator, a request in a line break. Both pipes are open for reading and writing, so nobody
# waits for the other to open them, and a request is one write that no other can come between.
_SERVER = f"""\
cd {GATEWAY} || exit
exec 3<>request 4<>ready
separator=$(printf '\\037')
set -f
while IFS= read -r line <&3; do
    IFS=$separator
    set -- $line
    unset IFS
    [ $# -ge 2 ] || continue
    caller=$1
    case "$2" in *..*) continue ;; /*) program={GATEWAY}/programs$2 ;; *) continue ;; esac
    shift 2
    ( cd / && exec timeout -k 1 {_SECONDS} /bin/sh "$program" "$@" ) </dev/null >output 2>errors 3<&- 4<&-
    printf '%s %s\\n' "$caller" "$?" >&4
done
"""

_CLIENT = f"""\
#!/bin/sh
# Runs with its owner's rights.
exec 3<{GATEWAY}/lock && flock 3 || exit 126
separator=$(printf '\\037')
request="$$${{separator}}PATH$separator"
for word in "$@"; do request="$request$word$separator"; done
case "$request" in *'
'*) echo "${{0##*/}}: a line break in an argument" >&2; exit 2 ;; esac
printf '%s\\n' "$request" > {GATEWAY}/request
while IFS=' ' read -r caller status; do [ "$caller" = $$ ] && break; done < {GATEWAY}/ready
cat {GATEWAY}/output
cat {GATEWAY}/errors >&2
exit "$status"
"""


def client(path: str) -> bytes:
    """Return the client that the session finds at the path of a program that runs as root."""
    return _CLIENT.replace("PATH", path).encode()


def files(programs: dict[str, bytes]) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield the gateway's files as ``(path, kind, mode, content)``, all root's, parents before children.

    Args:
        programs: what runs as root, by its path in the world; nothing is yielded where there is none.
    """
    if not programs:
        return
    yield GATEWAY, "dir", 0o755, b""
    yield SERVER, "file", 0o600, _SERVER.encode()
    for name, kind, mode in (("request", "fifo", 0o622), ("ready", "fifo", 0o644)):
        yield f"{GATEWAY}/{name}", kind, mode, b""
    for name in ("lock", "output", "errors"):
        yield f"{GATEWAY}/{name}", "file", 0o644, b""
    above = {f"{GATEWAY}/programs"}
    for path in programs:
        names = path.strip("/").split("/")[:-1]
        above |= {f"{GATEWAY}/programs/{'/'.join(names[:n])}" for n in range(1, len(names) + 1)}
    for folder in sorted(above):
        yield folder, "dir", 0o700, b""
    for path, content in programs.items():
        yield f"{GATEWAY}/programs{path}", "file", 0o600, content
