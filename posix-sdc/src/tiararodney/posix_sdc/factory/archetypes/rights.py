"""Rights: permission bits."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Check,
    Request,
    Work,
    listed,
    mode_is,
    q,
    runnable,
    source_untouched,
    starting_file,
    text_file,
    untouched,
    word_lines,
)


def mode(request: Request) -> Work:
    """Set a file's mode."""
    d = request.draw
    modes = ["600", "640", "644", "660", "664", "400", "440", "444", "700", "755"]
    wanted, before, wrong = d.rng.sample([m for m in modes if m != "644"] if request.source else modes, 3)
    given, fixtures = starting_file(
        request, text_file(d.file("txt", "key", "csv", "conf"), word_lines(d, 1, 3), mode=before)
    )
    path = given.path
    text = d.wording(
        [
            f"Set the mode of {path} to {wanted}",
            f"{path} (needs|requires|wants) the (permissions|mode bits|permission bits) {wanted}.",
            f"(Change|Adjust) the (permissions|rights) (of|on) {path} to {wanted}.",
            f"The mode of {path} has to be {wanted}",
        ]
    )
    return Work(
        text,
        (f"chmod {wanted} {path}",),
        (mode_is(path, wanted), source_untouched(request.source, given)),
        fixtures,
        (path,),
        (),
        (
            (f"chmod {wrong} {path}",),
            (f"rm -f {path}", f"touch {path}", f"chmod {wanted} {path}"),
            (f"chmod {wanted} .",),
        ),
        (f"ls -l {path}",),
        ways=((f"chmod 0{wanted} {path}",), (f"chmod {_symbolic(wanted)} {path}",)),
    )


def _symbolic(mode: str) -> str:
    """Return octal digits in chmod's own letters."""
    sets = ("", "x", "w", "wx", "r", "rx", "rw", "rwx")
    return ",".join(f"{who}={sets[int(digit)]}" for who, digit in zip("ugo", mode, strict=True))


def _runs_only(path: str, command: str) -> Check:
    """Return a check that a script is one command, below a first line and comments. It is read, never run."""
    rest = f"grep -v '^[[:blank:]]*#' {path} | grep -v '^[[:blank:]]*$' | tr -d '\"'\\'"
    test = f"[ -f {path} ] && [ \"$({rest} | tr -s ' ' | sed 's/^ //;s/ *;* *$//')\" = {q(command)} ]"
    return Check(f"{path} runs {command} and nothing else", test, (f"echo 'echo spoilt by a test' >> {path}",))


def script(request: Request) -> Work:
    """Write a script of one line and make it executable."""
    d = request.draw
    path, word = d.file("sh"), d.noun()
    text = d.wording(
        [
            f"Write a script {path} that runs echo {word}, and make it executable",
            (
                f"{path} (should|must|has to|ought to) be an executable script (with the line|of the "
                f"line|of one line|saying|that says): echo {word}"
            ),
            (
                f"(Create|Make) {path} with the command echo {word} in it(. It has to be executable|, and "
                "make it executable|; it needs to be executable)."
            ),
        ]
    )
    return Work(
        text,
        (f"echo 'echo {word}' > {path}", f"chmod +x {path}"),
        (_runs_only(path, f"echo {word}"), runnable(path)),
        (),
        (),
        (path,),
        (
            (f"echo 'echo {word}' > {path}",),
            (f"echo {word} > {path}", f"chmod +x {path}"),
            (f"touch {path}", f"chmod +x {path}"),
        ),
        (f"sh {path}", f"./{path}"),
        ways=(
            (f"printf '%s\\n' 'echo {word}' > {path}", f"chmod 755 {path}"),
            (f'echo "echo {word}" > {path}', f"chmod a+x {path}"),
        ),
    )


def executable(request: Request) -> Work:
    """Make all scripts of a folder executable, and nothing else."""
    d = request.draw
    folder = d.noun()
    scripts = [text_file(f"{folder}/{d.file('sh')}", [f"echo {d.noun()}"]) for _ in range(d.number(2, 3))]
    other = text_file(f"{folder}/{d.file('txt')}", word_lines(d, 1, 2))
    text = d.wording(
        [
            f"Make every .sh file in the folder {folder} executable, and no other file",
            f"The scripts in {folder} (*.sh) have to be executable; other files not.",
            (
                f"Give all *.sh in {folder} the permission to be run. (Leave the rest|Keep all "
                "others|Leave other files) as before."
            ),
        ]
    )
    return Work(
        text,
        (f"chmod +x {folder}/*.sh",),
        (
            *(runnable(s.path) for s in scripts),
            mode_is(other.path, other.mode),
            *map(untouched, (*scripts, other)),
        ),
        (*scripts, other),
        (folder,),
        (),
        ((f"chmod +x {folder}/*",), (f"chmod +x {scripts[0].path}",), (f"chmod -R 755 {folder}",)),
        (f"ls -l {scripts[0].path}", f"find {folder} -type f -perm -100"),
        ways=((f"chmod a+x {folder}/*.sh",), (f"find {folder} -name '*.sh' -exec chmod +x {{}} +",)),
    )


def private(request: Request) -> Work:
    """Take every right from group and others."""
    d = request.draw
    before = d.pick(("644", "664", "666", "755", "775"))
    given, fixtures = starting_file(request, text_file(d.file("key", "txt", "conf"), word_lines(d, 1, 2), mode=before))
    path, mode = given.path, "600" if request.source else f"{before[0]}00"
    text = d.wording(
        [
            (
                f"(Take|Remove) (all|any) permissions (on|for) {path} (away |)from group and others; (the "
                "owner keeps|the owner's stay|its owner retains) (those there are|what there is|as they are)"
            ),
            (
                f"(Nobody|No one) but (its|the) owner may (do anything with|touch|use) {path}. "
                "(Leave|Keep) (the owner's own|the owner's|its own) (permissions|rights) as they are."
            ),
            (
                f"{path} has to be private: (no rights|nothing) for group and others, the owner's "
                "(unchanged|untouched|own rights unchanged)."
            ),
        ]
    )
    return Work(
        text,
        (f"chmod go-rwx {path}",),
        (mode_is(path, mode), source_untouched(request.source, given)),
        fixtures,
        (path,),
        (),
        ((f"chmod 000 {path}",), (f"chmod o-rwx {path}",), (f"chmod a-rwx {path}",)),
        (f"ls -l {path}", f"stat -c %a {path}"),
        ways=((f"chmod go= {path}",), (f"chmod {mode} {path}",)),
    )


def open_ones(request: Request) -> Work:
    """Write down which files everybody may change."""
    d = request.draw
    folder, out = d.noun(), d.file("txt", "list")
    loose = [text_file(f"{folder}/{d.file('txt', 'dat')}", word_lines(d, 1, 1), "666") for _ in range(d.number(1, 2))]
    tight = [text_file(f"{folder}/{d.file('txt', 'dat')}", word_lines(d, 1, 1), mode) for mode in ("644", "640", "664")]
    text = d.wording(
        [
            (
                f"Which files in {folder} may everybody write to? (Save their paths|Note their paths|List "
                f"the paths), {folder}/..., in {out}"
            ),
            f"{out} (should|must) list the files of {folder} that others have the right to write, as {folder}/NAME.",
            f"Find the world-writable files in {folder} and write their paths ({folder}/...) to {out}.",
        ]
    )
    return Work(
        text,
        (f"find {folder} -type f -perm -002 > {out}",),
        (listed(out, [f.path for f in loose]), *(mode_is(f.path, f.mode) for f in (*loose, *tight))),
        (*loose, *tight),
        (folder,),
        (out,),
        ((f"find {folder} -type f > {out}",), (f"ls {folder} > {out}",), (f"find {folder} -perm -020 > {out}",)),
        (f"cat {out}",),
        ways=((f"find {folder} -type f -perm -o=w > {out}",),),
    )


AUTHORS: dict[str, Author] = {
    "rights_mode": mode,
    "rights_script": script,
    "rights_executable": executable,
    "rights_private": private,
    "rights_open": open_ones,
}
