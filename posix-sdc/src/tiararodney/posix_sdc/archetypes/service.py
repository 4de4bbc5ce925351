"""Service: a control script with its state in a file."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file

WISHES = {"start": "running", "stop": "stopped", "restart": "restarted"}


def switch(brief: Brief) -> Work:
    """Start, stop or restart a service."""
    d = brief.draw
    script, name = d.file("sh"), d.invented()
    wish = d.pick(sorted(WISHES))
    state = f"{name}.state"
    before = "running" if wish == "stop" else "stopped"
    why = d.pick(("the socket is in use", "its data is corrupt", "it is pinned by an administrator"))
    text = d.wording(
        [
            f"{wish.capitalize()} {name} with sh {script} {wish}",
            f"The service {name} has to {wish}: run sh {script} {wish}",
            f"Use sh {script} {wish} to {wish} the service {name}.",
        ]
    )
    body = ['case "$1" in']
    for word, after in WISHES.items():
        act = f'echo "{name}: {why}" >&2; exit 4' if brief.failing else f"echo {after} > {state}; echo {name} {after}"
        body.append(f"{word}) {act} ;;")
    body += [f"status) cat {state} ;;", f"*) echo 'usage: {script} start|stop|restart|status' >&2; exit 2 ;;", "esac"]
    return Work(
        text,
        (f"sh {script} {wish}",),
        (holds(state, WISHES[wish]),),
        (text_file(script, body), text_file(state, [before])),
        (),
        (),
        ((f"sh {script} status",), (f"sh {script}",), (f"rm {state}",)),
        (f"sh {script} status",),
        why if brief.failing else "",
    )


AUTHORS: dict[str, Author] = {"service_switch": switch}
