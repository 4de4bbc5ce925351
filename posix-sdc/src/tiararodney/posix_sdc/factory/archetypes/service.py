"""Service: a control script with its state in a file."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.archetypes.shapes import report
from tiararodney.posix_sdc.factory.checks import Author, Request, Work, holds, listed, text_file, untouched

WISHES = {"start": "running", "stop": "stopped", "restart": "restarted"}


def switch(request: Request) -> Work:
    """Start, stop or restart a service."""
    d = request.draw
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
        act = f'echo "{name}: {why}" >&2; exit 4' if request.failing else f"echo {after} > {state}; echo {name} {after}"
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
        why if request.failing else "",
        ways=((f"sh ./{script} {wish}",),) if not request.failing else (),
    )


def port(request: Request) -> Work:
    """Change a service's port, then restart it so that it takes effect."""
    d = request.draw
    script, conf, name = d.file("sh"), d.file("conf"), d.invented()
    old, new = (str(n) for n in d.numbers(2, 1024, 9999))
    state = f"{name}.state"
    why = d.pick(("the socket is in use", "its data is corrupt", "it is pinned by an administrator"))
    text = d.wording(
        [
            f"Let the service {name} run on port {new}: set port in {conf} and run sh {script} restart",
            f"Change the port in {conf} from {old} to {new} and restart {name} with sh {script} restart",
            f"{name} has to listen on {new}. Its port is set in {conf}; sh {script} restart makes it read that.",
        ]
    )
    settings = [f"name={name}", f"port={old}", f"home=/srv/{name}"]
    act = f'echo "{name}: {why}" >&2; exit 4' if request.failing else f'. ./{conf}; echo "running on $port" > {state}'
    body = ['case "$1" in', f"restart) {act} ;;", f"status) cat {state} ;;"]
    body += [f"*) echo 'usage: {script} restart|status' >&2; exit 2 ;;", "esac"]
    changed = holds(conf, [f"port={new}" if s.startswith("port") else s for s in settings])
    program = text_file(script, body)
    return Work(
        text,
        (f"sed -i 's/^port=.*/port={new}/' {conf}", f"sh {script} restart"),
        (holds(state, f"running on {new}"), changed, untouched(program)),
        (program, text_file(conf, settings), text_file(state, [f"running on {old}"])),
        (conf,),
        (),
        (
            (f"sed -i 's/^port=.*/port={new}/' {conf}",),
            (f"sh {script} restart",),
            (f"echo 'running on {new}' > {state}",),
        ),
        (f"sh {script} status",),
        why if request.failing else "",
        may_change=(conf,),
        ways=((f"sed -i s/{old}/{new}/ {conf}", f"sh {script} restart"),) if not request.failing else (),
    )


def running(request: Request) -> Work:
    """Write down which services run."""
    d = request.draw
    folder, out = d.noun(), d.file("txt", "list")
    names = [d.invented() for _ in range(d.number(4, 6))]
    up = sorted(d.rng.sample(names, d.number(2, 3)))
    states = [text_file(f"{folder}/{n}", ["running" if n in up else d.pick(("stopped", "failed"))]) for n in names]
    text = d.wording(
        [
            f"The folder {folder} has the state of each service in a file: write the names of those running to {out}",
            f"{out} (should|must|has to|ought to) list the services (file names) in {folder} whose state is running.",
            f"Which services of {folder} are running? Save their names, which are the files' names, in {out}.",
        ]
    )
    return report(
        text,
        states,
        out,
        listed(out, up, folder),
        f"(cd {folder} && grep -l running *) > {out}",
        near_misses=(f"ls {folder} > {out}", f"grep running {folder}/* > {out}", f"grep -c running {folder}/* > {out}"),
        ways=(f"grep -l running {folder}/* | sed 's/.*\\///' > {out}",),
    )


def enable(request: Request) -> Work:
    """Enter a service in the list of those that start by themselves, then start it."""
    d = request.draw
    script, listed, name = d.file("sh"), d.file("list", "tab"), d.invented()
    before = [d.invented() for _ in range(d.number(2, 3))]
    state = f"{name}.state"
    text = d.wording(
        [
            (
                f"Add {name} as the last line of {listed}, then (start it|have it started|bring it up) "
                f"(with|by|using) sh {script} start"
            ),
            f"Enable {name} (append its name to {listed}) and (run|call) sh {script} start",
            f"(List|Enter|Note) the service {name} at the end of {listed}, and start it: sh {script} start",
        ]
    )
    check = f'grep -qx {name} {listed} || {{ echo "{name} is not enabled" >&2; exit 3; }}'
    body = ['case "$1" in', f"start) {check}; echo running > {state} ;;", f"status) cat {state} ;;"]
    body += [f"*) echo 'usage: {script} start|status' >&2; exit 2 ;;", "esac"]
    program = text_file(script, body)
    return Work(
        text,
        (f"echo {name} >> {listed}", f"sh {script} start"),
        (holds(listed, [*before, name]), holds(state, "running"), untouched(program)),
        (program, text_file(listed, before)),
        (listed,),
        (),
        (
            (f"echo {name} > {listed}", f"sh {script} start"),
            (f"sh {script} start 2>/dev/null",),
            (f"echo {name} >> {listed}",),
        ),
        (f"sh {script} status", f"cat {listed}"),
        ways=((f"printf '%s\\n' {name} >> {listed}", f"sh {script} start"),),
    )


AUTHORS: dict[str, Author] = {
    "service_switch": switch,
    "service_port": port,
    "service_running": running,
    "service_enable": enable,
}
