"""Config: files of key=value lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file, untouched

if TYPE_CHECKING:
    from tiararodney.posix_sdc.vocabulary import Draw


def _settings(draw: Draw) -> dict[str, str]:
    keys = draw.nouns(draw.number(3, 5))
    return {k: draw.pick((str(draw.number(2, 9000)), draw.noun())) for k in keys}


def _lines(settings: dict[str, str]) -> list[str]:
    return [f"{k}={v}" for k, v in settings.items()]


def change(brief: Brief) -> Work:
    """Set a key to another value."""
    d = brief.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    key = d.pick(list(settings))
    value = d.pick((str(d.number(2, 9000)), d.noun()))
    if value == settings[key]:
        value += "0"
    text = d.wording(
        [
            f"Set {key} to {value} in {path}",
            f"In {path}, {key} has to be {value}.",
            f"Change the value of {key} in {path} to {value}.",
            f"{path}: the setting {key} should be {value}",
        ]
    )
    return Work(
        text,
        (f"sed -i 's/^{key}=.*/{key}={value}/' {path}",),
        (holds(path, _lines(settings | {key: value})),),
        (text_file(path, _lines(settings)),),
        (path,),
        (),
        ((f"echo {key}={value} >> {path}",), (f"echo {key}={value} > {path}",), (f"sed -i '/^{key}=/d' {path}",)),
        (f"grep {key} {path}", f"cat {path}"),
    )


def add(brief: Brief) -> Work:
    """Append a key."""
    d = brief.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    key, value = d.noun(), d.pick((str(d.number(2, 9000)), d.noun()))
    text = d.wording(
        [
            f"Add the line {key}={value} to the end of {path}",
            f"Append {key}={value} to {path}.",
            f"{path} lacks a last line {key}={value}: add it.",
        ]
    )
    return Work(
        text,
        (f"echo {key}={value} >> {path}",),
        (holds(path, _lines(settings | {key: value})),),
        (text_file(path, _lines(settings)),),
        (path,),
        (),
        ((f"echo {key}={value} > {path}",), (f"echo {key} {value} >> {path}",), (f"echo {value} >> {path}",)),
        (f"cat {path}", f"grep {key} {path}"),
    )


def read(brief: Brief) -> Work:
    """Copy a value out."""
    d = brief.draw
    path, settings, out = d.file("conf", "ini", "cfg"), _settings(d), d.file("txt", "val")
    key = d.pick(list(settings))
    text = d.wording(
        [
            f"Write the line of {key} from {path} to {out}",
            f"{out} is to hold the line that sets {key} in {path}.",
            f"Copy the setting {key} (the whole line) from {path} into {out}.",
        ]
    )
    given = text_file(path, _lines(settings))
    return Work(
        text,
        (f"grep ^{key}= {path} > {out}",),
        (holds(out, f"{key}={settings[key]}"), untouched(given)),
        (given,),
        (path,),
        (out,),
        ((f"echo {key} > {out}",), (f"grep -v ^{key}= {path} > {out}",), (f"cat {path} > {out}",)),
        (f"cat {out}",),
    )


def drop(brief: Brief) -> Work:
    """Delete a key's line."""
    d = brief.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    key = d.pick(list(settings))
    text = d.wording(
        [
            f"Delete the line of {key} from {path}",
            f"Remove the setting {key} from {path}.",
            f"{path} should no longer have a line {key}=.",
        ]
    )
    return Work(
        text,
        (f"sed -i '/^{key}=/d' {path}",),
        (holds(path, _lines({k: v for k, v in settings.items() if k != key})),),
        (text_file(path, _lines(settings)),),
        (path,),
        (),
        ((f"rm {path}",), (f": > {path}",), (f"sed -i 's/^{key}=.*/{key}=/' {path}",)),
        (f"cat {path}",),
    )


def backup(brief: Brief) -> Work:
    """Keep a copy of a file, then add a key to it."""
    d = brief.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    kept = f"{path}.{d.pick(('bak', 'orig', 'old'))}"
    key, value = d.noun(), d.pick((str(d.number(2, 9000)), d.noun()))
    text = d.wording(
        [
            f"Copy {path} to {kept}, then add the line {key}={value} to {path}",
            f"Keep a copy of {path} as {kept}. After that append {key}={value} to {path}.",
            f"{path} lacks a last line {key}={value}: add it, but save {path} as {kept} before.",
        ]
    )
    given = text_file(path, _lines(settings))
    return Work(
        text,
        (f"cp {path} {kept}", f"echo {key}={value} >> {path}"),
        (holds(kept, given.content), holds(path, _lines(settings | {key: value}))),
        (given,),
        (path,),
        (kept,),
        (
            (f"echo {key}={value} >> {path}", f"cp {path} {kept}"),
            (f"mv {path} {kept}", f"echo {key}={value} >> {path}"),
            (f"cp {path} {kept}",),
        ),
        (f"cat {path}", "ls"),
    )


AUTHORS: dict[str, Author] = {
    "config_set": change,
    "config_add": add,
    "config_read": read,
    "config_drop": drop,
    "config_backup": backup,
}
