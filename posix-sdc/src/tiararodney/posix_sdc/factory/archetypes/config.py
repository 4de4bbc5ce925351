"""Config: files of key=value lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.shapes import edit, report
from tiararodney.posix_sdc.factory.checks import (
    Author,
    Request,
    Source,
    Work,
    absent,
    holds,
    holds_one_of,
    same_lines,
    text_file,
)

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.vocabulary import Draw


def _settings(draw: Draw) -> dict[str, str]:
    keys = draw.nouns(draw.number(3, 5))
    return {k: draw.pick((str(draw.number(2, 9000)), draw.noun())) for k in keys}


def _lines(settings: dict[str, str]) -> list[str]:
    return [f"{k}={v}" for k, v in settings.items()]


def change(request: Request) -> Work:
    """Set a key to another value."""
    d = request.draw
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
    return edit(
        text,
        text_file(path, _lines(settings)),
        same_lines(path, _lines(settings | {key: value})),
        f"sed -i 's/^{key}=.*/{key}={value}/' {path}",
        near_misses=(f"echo {key}={value} >> {path}", f"echo {key}={value} > {path}", f"sed -i '/^{key}=/d' {path}"),
        verify=(f"grep {key} {path}", f"cat {path}"),
        ways=(f"sed -i s/^{key}=.*/{key}={value}/ {path}", f"sed -i '/^{key}=/c{key}={value}' {path}"),
    )


def add(request: Request) -> Work:
    """Append a key."""
    d = request.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    key, value = d.noun(), d.pick((str(d.number(2, 9000)), d.noun()))
    text = d.wording(
        [
            f"(Add|Append) {key}={value} as a new line (below all others in|after everything in|to) {path}",
            f"Append {key}={value} to {path}.",
            (
                f"{path} (lacks|needs|is missing) {key}={value}(, on a line at its end|; add that below "
                "the rest| as its last line)."
            ),
        ]
    )
    return edit(
        text,
        text_file(path, _lines(settings)),
        holds(path, _lines(settings | {key: value})),
        f"echo {key}={value} >> {path}",
        near_misses=(f"echo {key}={value} > {path}", f"echo {key} {value} >> {path}", f"echo {value} >> {path}"),
        verify=(f"cat {path}", f"grep {key} {path}"),
        ways=(f"printf '%s\\n' {key}={value} >> {path}", f"sed -i '$a{key}={value}' {path}"),
    )


def read(request: Request) -> Work:
    """Copy a value out."""
    d = request.draw
    path, settings, out = d.file("conf", "ini", "cfg"), _settings(d), d.file("txt", "val")
    key = d.pick(list(settings))
    text = d.wording(
        [
            f"(Write|Copy|Put) the line (for|with|about) {key} from {path} (to|into) {out}",
            f"{out} (must|should) contain (the line that sets|the whole line for|the line setting) {key} in {path}.",
            f"(Copy|Extract) (the setting|the entry) {key} (the whole line) from {path} into {out}.",
        ]
    )
    given = text_file(path, _lines(settings))
    return report(
        text,
        (given,),
        out,
        holds(out, f"{key}={settings[key]}"),
        f"grep ^{key}= {path} > {out}",
        near_misses=(f"echo {key} > {out}", f"grep -v ^{key}= {path} > {out}", f"cat {path} > {out}"),
        ways=(f"sed -n '/^{key}=/p' {path} > {out}", f"awk '/^{key}=/' {path} > {out}"),
        result=Source(out, (f"{key}={settings[key]}",)),
    )


def drop(request: Request) -> Work:
    """Delete a key's line."""
    d = request.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    key = d.pick(list(settings))
    text = d.wording(
        [
            f"Delete the line of {key} from {path}",
            f"Remove the setting {key} from {path}.",
            f"{path} should no longer have a line {key}=.",
        ]
    )
    return edit(
        text,
        text_file(path, _lines(settings)),
        holds(path, _lines({k: v for k, v in settings.items() if k != key})),
        f"sed -i '/^{key}=/d' {path}",
        near_misses=(f"rm {path}", f": > {path}", f"sed -i 's/^{key}=.*/{key}=/' {path}"),
        verify=(f"cat {path}",),
    )


def backup(request: Request) -> Work:
    """Keep a copy of a file, then add a key to it."""
    d = request.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    kept = f"{path}.{d.pick(('bak', 'orig', 'old'))}"
    key, value = d.noun(), d.pick((str(d.number(2, 9000)), d.noun()))
    text = d.wording(
        [
            f"Copy {path} to {kept}, (then|and then|afterwards) (add|append) the line {key}={value} to {path}",
            f"Keep a copy of {path} as {kept}. After that append {key}={value} to {path}.",
            (
                f"(Save|Keep) {path} as {kept} (before you touch it|first), since it (gets|needs) "
                f"{key}={value} (at its end|as a last line|below the rest)."
            ),
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
        ways=((f"cp -p {path} {kept}", f"echo '{key}={value}' >> {path}"),),
    )


def comment(request: Request) -> Work:
    """Turn a setting off, or on again, by a hash sign."""
    d = request.draw
    path, settings = d.file("conf", "ini", "cfg"), _settings(d)
    key, on = d.pick(list(settings)), d.chance(0.4)
    lines = _lines(settings)
    at = lines.index(f"{key}={settings[key]}")
    commented = [*lines[:at], f"#{lines[at]}", *lines[at + 1 :]]
    before, after = (commented, lines) if on else (lines, commented)
    text = d.wording(
        [
            f"Remove the # in front of {key} in {path}",
            f"{key} is commented out in {path}: switch it on again by taking the # away.",
            f"In {path} the line (for|with|about) {key} should lose its #.",
        ]
        if on
        else [
            f"Comment out {key} in {path} with a #",
            f"Switch {key} off in {path}: put a # in front of its line.",
            f"In {path} the line of {key} should begin with #.",
        ]
    )
    usual = f"sed -i 's/^#{key}=/{key}=/' {path}" if on else f"sed -i 's/^{key}=/#{key}=/' {path}"
    other = f"sed -i '/^#{key}=/s/#//' {path}" if on else f"sed -i '/^{key}=/s/^/#/' {path}"
    return edit(
        text,
        text_file(path, before),
        holds_one_of(path, [after] if on else [after, [line.replace("#", "# ") for line in after]]),
        usual,
        near_misses=(f"sed -i '/{key}=/d' {path}", f"sed -i 's/^/#/' {path}", f"echo '#{key}' >> {path}"),
        verify=(f"grep {key} {path}", f"cat {path}"),
        ways=(other,),
    )


def section(request: Request) -> Work:
    """Set a key in one section of a file in which others have the same key."""
    d = request.draw
    path, key, sections = d.file("ini", "conf"), d.noun(), d.nouns(d.number(2, 3))
    values = {name: str(d.number(2, 400)) for name in sections}
    wanted, value = d.pick(sections), str(d.number(500, 9000))
    more = {name: d.noun() for name in sections}

    def written(values: dict[str, str]) -> list[str]:
        return [line for s in sections for line in (f"[{s}]", f"{key}={values[s]}", f"mode={more[s]}")]

    text = d.wording(
        [
            (
                f"(Set|Change) {key} to {value} in (the section|section) {wanted} of {path}, (in no other "
                "section|and only there|nowhere else)"
            ),
            (
                f"In {path} the section [{wanted}] (needs|should say) {key}={value}; (the others "
                "stay|nothing changes|no change) (outside of it|elsewhere|beyond it)."
            ),
            (
                f"{path}, section {wanted}: {key} has to be {value}. (Leave|Keep) the other sections "
                "(alone|untouched|as they are)."
            ),
        ]
    )
    return edit(
        text,
        text_file(path, written(values)),
        holds(path, written(values | {wanted: value})),
        f"sed -i '/^\\[{wanted}\\]/,/^\\[/s/^{key}=.*/{key}={value}/' {path}",
        near_misses=(
            f"sed -i 's/^{key}=.*/{key}={value}/' {path}",
            f"echo {key}={value} >> {path}",
            f"sed -i 's/{values[wanted]}/{values[wanted]}0/' {path}",
        ),
        verify=(f"cat {path}", f"grep -A 1 '{wanted}' {path}"),
        ways=(f"sed -i '/^\\[{wanted}\\]/,/^mode/s/^{key}=.*/{key}={value}/' {path}",),
    )


def merge(request: Request) -> Work:
    """Append one file's settings to another, then remove it."""
    d = request.draw
    path, more = d.file("conf", "cfg"), d.file("conf", "add")
    a, b = _lines(_settings(d)), _lines({d.noun(): d.noun(), d.noun(): str(d.number(2, 99))})
    text = d.wording(
        [
            f"(Append|Add) (the settings of|all of|what is set by) {more} to {path}, then (delete|remove) {more}",
            (
                f"{path} (should|must) (end|close) with (all that {more} has|what {more} sets|the lines "
                f"of {more}); {more} (itself is then deleted|goes after that|is removed then)."
            ),
            (
                f"Move (the settings of|everything from) {more} to the end of {path}; {more} itself "
                "(should be gone then|has to be deleted|is to be removed)."
            ),
        ]
    )
    return Work(
        text,
        (f"cat {more} >> {path}", f"rm {more}"),
        (holds(path, [*a, *b]), absent(more)),
        (text_file(path, a), text_file(more, b)),
        (more, path),
        (),
        ((f"cat {more} >> {path}",), (f"rm {more}",), (f"mv {more} {path}",)),
        (f"cat {path}", "ls"),
        ways=((f"sed -n p {more} >> {path}", f"rm {more}"),),
    )


AUTHORS: dict[str, Author] = {
    "config_comment": comment,
    "config_section": section,
    "config_merge": merge,
    "config_set": change,
    "config_add": add,
    "config_read": read,
    "config_drop": drop,
    "config_backup": backup,
}
