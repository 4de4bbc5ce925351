"""Build: scripts that are run and may fail."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Request,
    Source,
    Work,
    absent,
    holds,
    text_file,
    untouched,
    word_lines,
)

WARNINGS = ("licence expires soon", "the pool is nearly full", "compiler is old", "clock is 2 s ahead")
FAILURES = ("licence has expired", "no space left in the pool", "compiler is missing", "lock is held by another host")


def _warning(request: Request, script: str) -> list[str]:
    return [f'echo "{script}: warning: {request.draw.pick(WARNINGS)}" >&2'] if request.warns else []


def run(request: Request) -> Work:
    """Run a script that makes a file out of another."""
    d = request.draw
    script, out = d.file("sh"), d.file("txt", "out", "bin")
    result = " ".join(d.nouns(2))
    text = d.wording(
        [
            f"Run {script}; it makes {out}",
            f"{out} has to be built by running {script}.",
            f"Build {out}: run the script {script}.",
        ]
    )
    why = d.pick(FAILURES)
    body = (
        [f'echo "{script}: {why}" >&2', "exit 3"]
        if request.failing
        else [*_warning(request, script), f"echo '{result}' > {out}", f"echo built {out}"]
    )
    given = text_file(script, body)
    return Work(
        text,
        (f"sh {script}",),
        (holds(out, result), untouched(given)),
        (given,),
        (script,),
        (out,),
        ((f"touch {out}",), (f"cat {script} > {out}",), (f"echo {out} > {out}",)),
        (f"cat {out}", "ls"),
        why if request.failing else "",
        ways=((f"sh ./{script}",), (f". ./{script}",)) if not request.failing else (),
        result=Source(out, (result,)),
    )


def chain(request: Request) -> Work:
    """Run a script, then move what it made."""
    d = request.draw
    script, out, folder = d.file("sh"), d.file("txt", "out"), d.noun()
    lines = word_lines(d, 1, 2)
    text = d.wording(
        [
            f"Run {script}, then move {out}, which it makes, into the folder {folder}",
            f"{script} makes {out}. Run it and move {out} to the folder {folder}.",
            f"Build {out} with {script} and (move|take) (it|the result) to the folder {folder}.",
        ]
    )
    why = d.pick(FAILURES)
    made = [*_warning(request, script), f"cat > {out} <<END", *lines, "END"]
    body = [f'echo "{script}: {why}" >&2', "exit 3"] if request.failing else made
    given = text_file(script, body)
    kept = text_file(f"{folder}/{d.file()}", word_lines(d, 1, 2))
    return Work(
        text,
        (f"sh {script}", f"mv {out} {folder}/"),
        (holds(f"{folder}/{out}", lines), absent(out), untouched(kept), untouched(given)),
        (given, kept),
        (script,),
        (f"{folder}/{out}",),
        ((f"sh {script}",), (f"touch {folder}/{out}",), (f"sh {script}", f"cat {out} > {folder}/{out}")),
        (f"ls {folder}",),
        why if request.failing else "",
        ways=((f"sh ./{script}", f"mv {out} {folder}"),) if not request.failing else (),
    )


def order(request: Request) -> Work:
    """Run three scripts in the order in which they need each other."""
    d = request.draw
    steps = [d.file("sh") for _ in range(3)]
    parts, words = [d.file("o", "part") for _ in range(2)], d.nouns(3)
    out = d.file("bin", "out")
    one, two, three = steps
    why = d.pick(FAILURES)
    bodies = {
        one: [f"echo {words[0]} > {parts[0]}"],
        two: [f"cat {parts[0]} > {parts[1]} && echo {words[1]} >> {parts[1]}"],
        three: [f'echo "{three}: {why}" >&2', "exit 3"]
        if request.failing
        else [f"cat {parts[1]} > {out} && echo {words[2]} >> {out}"],
    }
    text = d.wording(
        [
            f"Build {out}: run {one}, then {two}, then {three}",
            (
                f"{out} is made in three steps, one script each, (in this order|in that order|in turn): "
                f"{one}, {two}, {three}. Run them."
            ),
            f"{three} makes {out} from what {two} makes, and {two} needs what {one} makes. Run all three.",
        ]
    )
    files = tuple(text_file(name, bodies[name]) for name in sorted(bodies))
    return Work(
        text,
        (f"sh {one}", f"sh {two}", f"sh {three}"),
        (holds(out, words), *map(untouched, files)),
        files,
        (one, two, three),
        (out,),
        (
            (f"sh {one}", f"sh {three}"),
            (f"touch {out}",),
            (f"sh {three} 2>/dev/null", f"sh {two} 2>/dev/null", f"sh {one}"),
        ),
        (f"cat {out}",),
        why if request.failing else "",
        result=Source(out, tuple(words)),
    )


def repair(request: Request) -> Work:
    """Mend a script that reads a file of another name, then run it."""
    d = request.draw
    script, wrong, right, out = d.file("sh"), d.file("txt", "dat"), d.file("txt", "dat"), d.file("out", "bin")
    lines = word_lines(d, 1, 3)
    text = d.wording(
        [
            f"{script} reads {wrong}, now called {right}: change that name in {script}, then run it; it makes {out}",
            f"Let {script} read {right} instead of {wrong}, then run it so that {out} is made.",
            f"In {script} the name {wrong} has to become {right}. After that build {out} with it.",
        ]
    )
    why = d.pick(FAILURES)
    act = f'echo "{script}: {why}" >&2; exit 3' if request.failing else f"cat {{}} > {out}"
    body, mended = ([f"[ -f {name} ] || exit 1", act.replace("{}", name)] for name in (wrong, right))
    given = text_file(right, lines)
    return Work(
        text,
        (f"sed -i 's/{wrong}/{right}/g' {script}", f"sh {script}"),
        (holds(out, lines), holds(script, mended), untouched(given), absent(wrong)),
        (text_file(script, body), given),
        (script, right),
        (out,),
        (
            (f"sh {script}",),
            (f"sed -i 's/{wrong}/{right}/g' {script}",),
            (f"mv {right} {wrong}", f"sh {script}"),
        ),
        (f"cat {out}", f"cat {script}"),
        why if request.failing else "",
        may_change=(script,),
        ways=((f'sed -i "s/{wrong}/{right}/" {script}', f"sh ./{script}"),) if not request.failing else (),
        result=Source(out, tuple(lines)),
    )


def variable(request: Request) -> Work:
    """Run a script that takes what it makes from a variable."""
    d = request.draw
    script, out, name, value = d.file("sh"), d.file("out", "bin"), d.variable(), d.noun()
    text = d.wording(
        [
            f"Run {script} with the variable {name} set to {value}; it makes {out}",
            f"{out} has to be built by {script}, which needs {name}={value} in its environment.",
            f"Build {out}: set {name} to {value} for {script} and run it.",
        ]
    )
    why = d.pick(FAILURES)
    body = (
        [f'echo "{script}: {why}" >&2', "exit 3"]
        if request.failing
        else [
            f'[ -n "${name}" ] || {{ echo "{script}: {name} is not set" >&2; exit 2; }}',
            f'echo "for ${name}" > {out}',
        ]
    )
    given = text_file(script, body)
    return Work(
        text,
        (f"{name}={value} sh {script}",),
        (holds(out, f"for {value}"), untouched(given)),
        (given,),
        (script,),
        (out,),
        ((f"sh {script}",), (f"{name}={name} sh {script}",), (f"echo {value} > {out}",)),
        (f"cat {out}",),
        why if request.failing else "",
        ways=((f"env {name}={value} sh {script}",), (f"export {name}={value}; sh {script}",))
        if not request.failing
        else (),
    )


AUTHORS: dict[str, Author] = {
    "build_run": run,
    "build_chain": chain,
    "build_order": order,
    "build_repair": repair,
    "build_variable": variable,
}
