"""Session: variables of the shell and the file that sets them."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.archetypes.shapes import edit
from tiararodney.posix_sdc.factory.checks import Author, Check, Request, Source, Work, holds, text_file, untouched

# What a login sets in every world.
LOGIN = {"HOME": "/home/agent", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def _holds_directory(path: str) -> Check:
    known = holds(path, "@")
    return Check(known.says, known.test.replace("= @", '= "$(pwd)"'), known.broken_by)


def variable(request: Request) -> Work:
    """Write down where the session's shell finds things."""
    d = request.draw
    out, name = d.file("txt", "env"), d.pick(("HOME", "PATH", "PWD"))
    text = d.wording(
        [
            f"Write the value of the variable {name} to {out}",
            f"{out} (must|should) contain what the variable {name} is set to.",
            f"Save the value of {name} (an environment variable) in {out}.",
        ]
    )
    # PWD is where the checker stands.
    known = holds(out, LOGIN[name]) if name in LOGIN else _holds_directory(out)
    return Work(
        text,
        ("echo $" + f"{name} > {out}",),
        (known,),
        (),
        (),
        (out,),
        ((f"echo {name} > {out}",), (f"env > {out}",), (f"echo / > {out}",)),
        (f"cat {out}",),
        ways=((f'echo "${name}" > {out}',), (f"printenv {name} > {out}",)),
    )


def profile(request: Request) -> Work:
    """Add a variable to a file of exports."""
    d = request.draw
    path, name, value = d.file("profile", "env", "rc"), d.noun().upper(), d.pick((d.noun(), str(d.number(2, 900))))
    before = [f"export {d.noun().upper()}={d.noun()}" for _ in range(d.number(1, 3))]
    text = d.wording(
        [
            f"Add the line export {name}={value} to {path}",
            f"{path} (should|must|has to|ought to) end with the line export {name}={value}",
            f"Append export {name}={value} to {path}.",
        ]
    )
    return edit(
        text,
        text_file(path, before),
        holds(path, [*before, f"export {name}={value}"]),
        f"echo 'export {name}={value}' >> {path}",
        near_misses=(
            f"echo 'export {name}={value}' > {path}",
            f"export {name}={value}",
            f"echo {name}={value} >> {path}",
        ),
        verify=(f"cat {path}",),
        ways=(f"echo export {name}={value} >> {path}", f"printf '%s\\n' 'export {name}={value}' >> {path}"),
    )


def search_path(request: Request) -> Work:
    """Put a folder in front of the search path in a file that shells read."""
    d = request.draw
    path, folder = d.file("profile", "env", "rc"), f"/opt/{d.noun()}/bin"
    before = [f"export {d.noun().upper()}={d.noun()}" for _ in range(d.number(1, 3))]
    line = f"PATH={folder}:$PATH"
    text = d.wording(
        [
            (
                f"(Add a last line to|End|Close) {path} (with a line|with one line|so) that puts {folder} "
                f"(in front of|ahead of|before) PATH: {line}"
            ),
            f"{path} has to (end|finish|close) with (the line|this line:|this:) {line}",
            f"Append {line} to {path}, just like that, with the dollar sign.",
        ]
    )
    return edit(
        text,
        text_file(path, before),
        holds(path, [*before, line]),
        f"echo '{line}' >> {path}",
        near_misses=(f'echo "{line}" >> {path}', f"echo '{line}' > {path}", f"PATH={folder}:$PATH"),
        verify=(f"cat {path}", f"tail -n 1 {path}"),
        ways=(f"printf '%s\\n' '{line}' >> {path}", f"cat >> {path} <<'END'\n{line}\nEND"),
    )


def sourced(request: Request) -> Work:
    """Read a file of settings into the shell, then write one of them down."""
    d = request.draw
    path, out = d.file("env", "rc"), d.file("txt", "val")
    names = [d.variable() for _ in range(3)]
    base, more = d.noun(), d.noun()
    lines = [f"{names[0]}={base}", f"{names[1]}=${{{names[0]}}}-{more}", f"{names[2]}={d.number(2, 99)}"]
    text = d.wording(
        [
            f"Source {path}, then write the value that {names[1]} has got to {out}",
            f"{out} has to hold what the variable {names[1]} is after {path} has been read by the shell (. ./{path}).",
            f"Read {path} into the shell with the dot command and save the value of {names[1]} in {out}.",
        ]
    )
    given = text_file(path, lines)
    return Work(
        text,
        (f". ./{path}", f'echo "${names[1]}" > {out}'),
        (holds(out, f"{base}-{more}"), untouched(given)),
        (given,),
        (path,),
        (out,),
        (
            (f"grep {names[1]} {path} > {out}",),
            (f"grep {names[1]} {path} | cut -d= -f2 > {out}",),
            (f". ./{path}", f"echo ${names[0]} > {out}"),
        ),
        (f"cat {out}",),
        ways=((f". ./{path}", f"printf '%s\\n' \"${names[1]}\" > {out}"),),
        result=Source(out, (f"{base}-{more}",)),
    )


def unset(request: Request) -> Work:
    """Take one variable out of a file of exports."""
    d = request.draw
    path = d.file("profile", "env", "rc")
    names = [n.upper() for n in d.nouns(3)]
    lines = [f"export {n}={d.noun()}" for n in names]
    gone = d.pick(names)
    kept = [line for line, n in zip(lines, names, strict=True) if n != gone]
    text = d.wording(
        [
            f"Let {path} say unset {gone} where it exports {gone} now",
            f"In {path} (the line that exports|the export of) {gone} has to become: unset {gone}",
            f"Replace the export of {gone} in {path} by the line unset {gone}.",
        ]
    )
    after = [f"unset {gone}" if n == gone else line for line, n in zip(lines, names, strict=True)]
    return edit(
        text,
        text_file(path, lines),
        holds(path, after),
        f"sed -i 's/^export {gone}=.*/unset {gone}/' {path}",
        near_misses=(
            f"echo 'unset {gone}' >> {path}",
            f"unset {gone}",
            f"printf '%s\\n' {' '.join(repr(k) for k in kept)} > {path}",
        ),
        verify=(f"cat {path}",),
        ways=(f'sed -i "s/^export {gone}=.*/unset {gone}/" {path}', f"sed -i '/^export {gone}=/cunset {gone}' {path}"),
    )


AUTHORS: dict[str, Author] = {
    "session_variable": variable,
    "session_profile": profile,
    "session_path": search_path,
    "session_source": sourced,
    "session_unset": unset,
}
