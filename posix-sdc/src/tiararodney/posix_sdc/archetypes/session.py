"""Session: variables of the shell and the file that sets them."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file


def variable(brief: Brief) -> Work:
    """Write down where the session's shell finds things."""
    d = brief.draw
    out, name = d.file("txt", "env"), d.pick(("HOME", "PATH", "PWD"))
    text = d.wording(
        [
            f"Write the value of the variable {name} to {out}",
            f"{out} is to hold what the variable {name} is set to.",
            f"Save the value of {name} (an environment variable) in {out}.",
        ]
    )
    # The value is the session's, not the checker's: PWD is where the checker stands; of the others the form is known.
    form = {"HOME": "/*", "PATH": "*/bin*", "PWD": "/*"}[name]
    exact = [holds(out, "PWD-IS-HERE").replace("PWD-IS-HERE", '"$(pwd)"').replace("'", "")] if name == "PWD" else []
    return Work(
        text,
        ("echo $" + f"{name} > {out}",),
        (
            f'[ -f {out} ] && [ "$(wc -l < {out})" -le 1 ]',
            f'case "$(cat {out})" in {form}) : ;; *) false ;; esac',
            *exact,
        ),
        (),
        (),
        (out,),
        ((f"echo {name} > {out}",), (f"env > {out}",), (f"touch {out}",)),
        (f"cat {out}",),
    )


def profile(brief: Brief) -> Work:
    """Add a variable to a file of exports."""
    d = brief.draw
    path, name, value = d.file("profile", "env", "rc"), d.noun().upper(), d.pick((d.noun(), str(d.number(2, 900))))
    before = [f"export {d.noun().upper()}={d.noun()}" for _ in range(d.number(1, 3))]
    text = d.wording(
        [
            f"Add the line export {name}={value} to {path}",
            f"{path} is to end with the line export {name}={value}",
            f"Append export {name}={value} to {path}.",
        ]
    )
    return Work(
        text,
        (f"echo 'export {name}={value}' >> {path}",),
        (holds(path, [*before, f"export {name}={value}"]),),
        (text_file(path, before),),
        (path,),
        (),
        ((f"echo 'export {name}={value}' > {path}",), (f"export {name}={value}",), (f"echo {name}={value} >> {path}",)),
        (f"cat {path}",),
    )


AUTHORS: dict[str, Author] = {"session_variable": variable, "session_profile": profile}
