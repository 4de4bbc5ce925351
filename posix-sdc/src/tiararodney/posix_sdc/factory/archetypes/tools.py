"""Tools: work that takes an invented utility, learnt from its own documentation."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Form,
    Request,
    Source,
    Unsuitable,
    Work,
    check_by_form,
    holds,
    other_results,
    q,
    source_untouched,
    text_file,
    untouched,
    word_lines,
)
from tiararodney.posix_sdc.factory.utilities import Utility, arguments, readable, utility
from tiararodney.posix_sdc.factory.vocabulary import Draw, wordings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Lines = list[str]


@dataclass(frozen=True)
class Transform:
    """A utility that reads one file and writes another, with one setting.

    Args:
        trades: what it is for, as its documentation says.
        wordings: of the directive; ``{tool}``, ``{source}``, ``{out}`` and ``{value}`` stand for values.
        option: what its setting may be called.
        setting: what documentation calls the setting's value.
        meaning: what the setting does.
        value: draws the setting for some lines; None where the lines do not suit.
        other: draws another setting, with which the result is wrong.
        awk: what it does with its standard input; the setting is the variable ``v``.
        result: the same in Python.
        own: draws the lines of a fresh input.
        passes_on: the output is text that a later step can take up.
        secret: the documentation states the setting, and the directive does not.
        open_ended: its result where the input has no newline at its end, if that makes a difference.
    """

    trades: tuple[str, ...]
    wordings: tuple[str, ...]
    option: tuple[str, ...]
    setting: str
    meaning: tuple[str, ...]
    value: Callable[[Draw, Sequence[str]], str | None]
    other: Callable[[Draw, str], str]
    awk: str
    result: Callable[[Sequence[str], str], Lines]
    own: Callable[[Draw], Lines] = lambda d: word_lines(d, 4, 8)
    passes_on: bool = True
    secret: bool = False
    open_ended: Callable[[Sequence[str], str], Lines] | None = None


# How documentation says where a result goes, by the shape of the call.
_SAID = {
    "stdout": (
        "(to|on|FILE to) stdout",
        "(writes|prints|uses) standard output",
        "(prints|shows) the (result|outcome|changed text)",
        "stdout: result",
        "result printed",
    ),
    "option": ("(make|write|fill) RESULT", "FILE (to|into) RESULT", "RESULT (gets|takes) the (text|outcome)"),
    "two": ("(read|take) FILE, (write|make) RESULT", "FILE (to|into) RESULT", "RESULT from FILE"),
    "stdin": (
        "(stdin to stdout|standard input to output|a pipe|stdin, stdout)",
        "a filter",
        "(reads|takes) standard input",
        "filter; (pipe|redirect)",
    ),
}
_SECRET = ("(The|Our) {0} is {1}.", "{0}: {1}", "{0} = {1}", "(Always|Here) {1} as {0}.", "Use {1} as {0}.")


def _written(draw: Draw, table: Transform, name: str, value: str) -> tuple[Utility, Callable[..., str]]:
    """Return the utility, and what writes a call of it from a source, a result and a setting."""
    shape = draw.pick(("stdout", "option", "two", "stdin", "stdout"))
    verb = draw.verb(("run", "make", "do", "apply", "process", "press", "turn", "treat")) if draw.chance(0.5) else ""
    option = "--" + draw.verb(table.option)
    into = draw.pick(("-o", "--into", "--to", "--out", f"--{draw.invented()}"))
    head = f"{verb} " if verb else ""
    setting = f"{option} {table.setting}"
    use, ends = {
        "stdout": (f"{head}{setting} FILE", draw.say(_SAID["stdout"])),
        "option": (f"{head}{setting} {into} RESULT FILE", draw.say(_SAID["option"])),
        "two": (f"{head}{setting} FILE RESULT", draw.say(_SAID["two"])),
        "stdin": (f"{head}{setting}", draw.say(_SAID["stdin"])),
    }[shape]
    body = [f'[ "${{1-}}" = {verb} ] || wrong "unknown command ${{1-}}"; shift'] if verb else []
    options = [(option, "v"), *([(into, "out")] if shape == "option" else [])]
    files = {"stdout": ["from"], "option": ["from"], "two": ["from", "out"], "stdin": []}[shape]
    body.append(arguments(options, files))
    body.append(f'[ -n "$v" ] || wrong "{option} is missing"')
    if files:
        body.append(readable(name, "from"))
    act = f"awk -v v=\"$v\" '{table.awk}'" if not table.awk.startswith("|") else table.awk.removeprefix("|").strip()
    reads, writes = (' < "$from"' if files else ""), ""
    if shape in ("option", "two"):
        body.append('[ -n "$out" ] || wrong "no RESULT was named"')
        writes = ' > "$out"'
    body.append(f"{{ {act}; }}{reads}{writes}")
    rows = [(use, ends), (option, draw.phrase(draw.pick(table.meaning)))]
    notes = [draw.phrase(draw.pick(_SECRET).format(table.setting, value))] if table.secret else []
    words = [word for word in (verb, option, *([into] if shape == "option" else [])) if word]
    made = utility(draw, name, draw.pick(table.trades), rows, "\n".join(body), words, notes)

    def call(source: str, out: str, v: str, *, last: bool = False) -> str:
        given = f"{option} {q(v)}"
        if shape == "stdin":
            return (
                f"cat {source} | {name} {head}{given} > {out}" if last else f"{name} {head}{given} < {source} > {out}"
            )
        told = f"{given} {into} {out}" if shape == "option" else given
        named = f"{source} {out}" if shape == "two" else source
        arguments_ = f"{named} {told}" if last else f"{told} {named}"
        return f"{name} {head}{arguments_}" + (f" > {out}" if shape == "stdout" else "")

    return made, call


def transform(table: Transform) -> Author:
    """Return the author of work that one kind of utility does."""

    def write(request: Request) -> Work:
        d, given = request.draw, request.source
        source = given.path if given else d.file("txt", "list", "log", "tab")
        lines = list(given.lines) if given else table.own(d)
        value = table.value(d, lines)
        if value is None:
            raise Unsuitable
        out = d.file("txt", "out", "res")
        wanted = table.result(lines, value)
        if wanted == lines or not wanted:
            raise Unsuitable
        tool, call = _written(d, table, d.program(), value)
        text = d.wording(table.wordings).format(tool=tool.mention, source=source, out=out, value=value)
        file = text_file(source, lines)
        other = table.other(d, value)

        def of(form: Form) -> Lines:
            result = table.result if form.ended or table.open_ended is None else table.open_ended
            return result(form.lines, value)

        return Work(
            text,
            (call(source, out, value),),
            (
                check_by_form(given, holds(out, wanted), lambda form: holds(out, of(form))),
                source_untouched(given, file),
            ),
            (*tool.files, *(() if given else (file,))),
            (source,),
            (out,),
            ((call(source, out, other),), (f"cp {source} {out}",), (f": > {out}",)),
            (f"cat {out}",),
            ways=((call(source, out, value, last=True),),),
            result=Source(out, tuple(wanted), others=other_results(given, wanted, of)) if table.passes_on else None,
            learn=tool.learn,
        )

    return write


def _noun(draw: Draw, _: Sequence[str]) -> str:
    return draw.noun()


def _another(draw: Draw, _: str) -> str:
    return draw.noun()


def _threshold(draw: Draw, lines: Sequence[str]) -> str | None:
    """Choose a bound that some of the lines' last numbers reach, and not all."""
    numbers = [line.split()[-1] for line in lines if line.split()]
    if len(numbers) != len(lines) or not all(re.fullmatch(r"\d{1,6}", n) for n in numbers):
        return None
    values = sorted({int(n) for n in numbers})
    return str(draw.pick(values[1:])) if len(values) > 1 else None


def _shared(draw: Draw, lines: Sequence[str]) -> str | None:
    words = sorted({w for line in lines for w in re.findall(r"[a-z]{4,}", line)})
    return draw.pick(words) if words else None


def _tagged(draw: Draw) -> Lines:
    word = draw.noun()
    return [f"{noun} {draw.pick((word, draw.number(10, 99)))}" for noun in draw.nouns(draw.number(4, 7))]


_FORMATS = {
    "pipe": ("%pipe", "<{}|{}>"),
    "brace": ("%brace", "{{{} = {}}}"),
    "turned": ("%turned", "{1}:{0}"),
}


def _converted(lines: Sequence[str], value: str) -> Lines:
    head, row = _FORMATS[value]
    return [head, *(row.format(*line.split()) for line in lines)]


def _pairs(draw: Draw, lines: Sequence[str]) -> str | None:
    return draw.pick(sorted(_FORMATS)) if all(len(line.split()) == 2 for line in lines) else None  # noqa: PLR2004 - a pair


_CONVERT = (
    'BEGIN { print "%" v } v == "pipe" { print "<" $1 "|" $2 ">" } '
    'v == "brace" { print "{" $1 " = " $2 "}" } v == "turned" { print $2 ":" $1 }'
)


def _sealed(lines: Sequence[str], value: str, end: str = "\n") -> Lines:
    text = "\n".join([value, *lines]) + end
    return [f"{value} {hashlib.sha256(text.encode()).hexdigest()[:16]}"]


_SEAL = """| { echo "$v"; cat; } | sha256sum | { read -r sum rest; printf '%s %.16s\\n' "$v" "$sum"; }"""

TABLE: Mapping[str, Transform] = {
    "tool_stamp": Transform(
        ("line stamping", "serial numbers", "series stamping", "line serials", "batch numbering"),
        wordings(
            r"""
            - (Stamp|Number|Mark) (every line|each line|all lines) of {source} in (series|the series) {value}
              (with|using|by means of) {tool}; (save|keep|leave) (it|that|the outcome) (as|in) {out}
            - {out} (should be|must become|is wanted as) {source} with serials (of the|in the|from) series {value},
              (made|done) by {tool}
            - (With|Using) {tool}, (give|put) serial numbers of {value} (ahead of all lines|on every
              line|before each line) in
              {source} and (call the result|name the result|write the result to) {out}
            - {source} (needs|lacks) its serials \(series {value}\). {tool} (adds|writes|makes) them. Result:
              {out}
            - (Serials|Serial numbers) for {source}, (please|if you would): series {value}, (written|added) by {tool},
              (stored|saved) (in|as) {out}
            - (Run|Put|Send) {source} through {tool} (for|to get) {value} serials; {out} (keeps|takes)
              the (outcome|result)
            - {tool} (stamps|numbers) {source} \(series: {value}; result: {out}\)
            - {source}, stamped {value} by {tool}, (makes|is|becomes) {out}
            """
        ),
        ("series", "batch", "prefix", "run-name", "letters"),
        "SERIES",
        (
            "(first part|leading word|start) of serials",
            "series name",
            "(serial|line) prefix",
            "(name before numbers|stands before numbers|what numbers follow)",
            "common (beginning|prefix)",
        ),
        _noun,
        _another,
        '{ printf "%s-%03d %s\\n", v, NR, $0 }',
        lambda lines, v: [f"{v}-{i:03d} {line}" for i, line in enumerate(lines, 1)],
    ),
    "tool_pick": Transform(
        ("row sifting", "picking rows", "thinning tables", "row filtering", "table sieving"),
        wordings(
            r"""
            - (Sift|Thin out|Reduce) {source} with {tool} so that (only rows|just those rows) (of|with) at least
              {value} (remain|stay|are left); (save|store) them in {out}
            - {out}: rows of {source} whose number is {value} or more. (Use|Take) {tool}
            - (Have|Let) {tool} (keep|pick) (whatever|what) in {source} (reaches|comes to) {value}, (and
              write|writing) (it|that) to {out}
            - (Rows|Lines) (below|under) {value} (are noise|do not matter). {tool} (sifts|filters) {source};
              (put|place) the rest (in|into) {out}
            - {tool}, {source}, (at least|minimum) {value}: (store|save) (what is left|what remains|the rest)
              (as|in) {out}
            - {out} (wants|takes) (those|the) rows of {source} (with|from) {value} or more, (sifted|picked) by {tool}
            """
        ),
        ("least", "floor", "from", "minimum", "over", "bar"),
        "NUMBER",
        (
            "(lowest|smallest) number kept",
            "lower bound",
            "rows below (go|are dropped)",
            "minimum",
            "(threshold|limit), inclusive",
        ),
        _threshold,
        lambda _, v: str(int(v) + 1),
        "$NF + 0 >= v + 0",
        lambda lines, v: [line for line in lines if int(line.split()[-1]) >= int(v)],
    ),
    "tool_convert": Transform(
        ("table notation", "converting pairs", "pair notation", "notations", "list conversion"),
        wordings(
            r"""
            - (Convert|Turn|Translate) {source} (to|into) (the notation|notation) {value} with {tool};
              (name|call) it {out}
            - {out} (must be|should be) {source} in the {value} notation. {tool} (knows|does|handles) it
            - (We need|Needed:|Wanted:) {source} as {value}, (made|converted) by {tool}, under the name {out}
            - {tool} can (write|produce) {value}: (do that|do so) for {source} and (keep|leave) the
              (output|outcome) in {out}
            - {source} (in|into) notation {value}, via {tool}; (file|output|result): {out}
            - {out} (is|becomes) {source}, (rewritten|put) as {value} (by|with) {tool}
            """
        ),
        ("as", "notation", "style", "format", "target"),
        "NOTATION",
        ("brace; pipe; turned", "pipe/brace/turned", "one of: pipe; turned; brace", "known: turned/pipe/brace"),
        _pairs,
        lambda _, v: {"pipe": "brace", "brace": "turned", "turned": "pipe"}[v],
        _CONVERT,
        _converted,
    ),
    "tool_redact": Transform(
        ("redacting text", "hiding words", "blacking out", "redaction", "word covering"),
        wordings(
            r"""
            - (Black out|Hide|Redact) (the word |){value} in {source} with {tool}; the (clean|redacted)
              (copy|text) goes (to|into) {out}
            - {source} (may not|must not) (leave|go out) with {value} in it: (run|put) it through {tool},
              (save|saved) as {out}
            - (Before|When) {source} is (sent|passed on), {value} has to be (hidden|blacked out). {tool} does
              that; (write|leave) {out}
            - {out} = {source} (without a trace of|with nothing to be seen of) {value} \({tool} hides words\)
            - {value} (may not|should not|must not) (be readable|show|appear) in {source}: {tool} (covers|hides)
              it, in {out}
            - {out} (is|becomes) {source} (minus|without) {value}, (by way of|courtesy of|through) {tool}
            """
        ),
        ("hide", "word", "cover", "name", "secret"),
        "WORD",
        (
            "(hidden|covered|blackened) word",
            "word (to hide|to cover|that goes)",
            "(what to hide|which word goes|covered from view)",
            "(gets|becomes) hashes",
        ),
        _shared,
        _another,
        '{ gsub(v, "#####"); print }',
        lambda lines, v: [line.replace(v, "#####") for line in lines],
        _tagged,
    ),
    "tool_seal": Transform(
        ("sealing files", "making seals", "file seals", "sealing", "seal work"),
        wordings(
            r"""
            - (Seal|Make a seal for|Write the seal for|Produce a seal of) {source} with {tool} and
              (keep|store|save) (the seal|that|it)
              (as|in) {out}
            - {source} (needs|lacks|is without|waits for) (a seal|its seal|sealing): (have|let) {tool}
              (make|write) (it|one), in {out}
            - (Write|Put) the seal that {tool} (makes|gives) for {source} (into|in) {out}
            - {out} (should hold|must contain|wants) (the seal|a seal) (of|for) {source}, as {tool} makes it
            - {tool}: (one|a) seal (for|of) {source}, (file|name): {out}
            - (Run|Use) {tool} on {source}; (its|the) seal (belongs|goes) (in|into) {out}
            - {out} = seal of {source}, (by|from|via) {tool}
            - (Nobody|No one) (accepts|takes) {source} unsealed. {tool} (helps|does it); (leave|put)
              (its|the) seal in {out}
            - {source} (goes|leaves) with (a|its) seal, {out}, (made|written) by {tool}
            """
        ),
        ("mark", "sign", "house", "owner", "ring"),
        "MARK",
        ("mark (used|to use|on seals)", "house mark", "(whose|which) mark", "seal owner"),
        _noun,
        _another,
        _SEAL,
        _sealed,
        passes_on=False,
        secret=True,
        open_ended=lambda lines, value: _sealed(lines, value, ""),
    ),
    "tool_deal": Transform(
        ("dealing lines", "sharing lines out", "line dealing"),
        wordings(
            r"""
            - (Deal|Share out|Hand out) the lines of {source} to {value} hands with {tool}; (save|write) it as
              {out}
            - {out}: {source}, dealt to {value} hands by {tool}
            - {value} hands share {source}. (Let|Have) {tool} deal, and (keep|leave) what it (says|prints) in
              {out}
            """
        ),
        ("hands", "ways", "share", "among", "players"),
        "NUMBER",
        ("(how many|number of) hands", "hands"),
        lambda d, lines: str(d.number(2, 3)) if len(lines) > 3 else None,  # noqa: PLR2004 - more lines than hands
        lambda _, v: str(int(v) + 1),
        '{ print (NR - 1) % v + 1 " " $0 }',
        lambda lines, v: [f"{i % int(v) + 1} {line}" for i, line in enumerate(lines)],
    ),
}


def book(request: Request) -> Work:
    """Book an amount in a ledger, which keeps a running total."""
    d = request.draw
    path, name = d.file("ledger", "book", "acct"), d.program()
    verb = d.verb(("book", "enter", "post", "credit", "record", "note"))
    to, amount = (
        "--" + d.verb(("for", "account", "to", "payee", "side")),
        "--" + d.verb(("sum", "amount", "units", "worth")),
    )
    accounts = d.nouns(d.number(2, 3))
    rows, total = [], 0
    for i in range(1, d.number(2, 4) + 1):
        value = d.number(2, 90)
        total += value
        rows.append(f"{i:03d} {d.pick(accounts)} {value} {total}")
    account, value = d.pick(accounts), d.number(2, 90)
    wanted = [*rows, f"{len(rows) + 1:03d} {account} {value} {total + value}"]
    body = "\n".join(
        [
            f'[ "${{1-}}" = {verb} ] || wrong "unknown command ${{1-}}"; shift',
            arguments([(to, "who"), (amount, "sum")], ["from"]),
            '[ -n "$who" ] && [ -n "$sum" ] || wrong "an account and an amount are needed"',
            readable(name, "from"),
            "set -- $(awk 'END { print NR + 1, $4 + 0 }' \"$from\")",
            'printf "%03d %s %d %d\\n" "$1" "$who" "$sum" $(($2 + sum)) >> "$from"',
        ]
    )
    tool = utility(
        d,
        name,
        d.pick(("keeping ledgers", "booking amounts", "ledgers", "account books", "bookkeeping")),
        [
            (
                f"{verb} {to} ACCOUNT {amount} N LEDGER",
                d.phrase("(add|append|make|book) (an entry|one entry|a line|one line)"),
            ),
            (to, d.phrase("(whose account|account name|which account|account)")),
            (amount, d.phrase("(whole number|how much|units|whole units)")),
        ],
        body,
        (verb, to, amount),
    )
    text = d.wording(
        (
            f"(Book|Enter|Post) {value} (for|to the account of|under) {account} in {path} (with|using) {tool.mention}",
            f"{account} (gets|is owed|receives) {value}: (enter|book) it in {path}, by {tool.mention}",
            f"(The ledger|Our ledger) {path} lacks {value} for {account}. {tool.mention} (books|enters) it",
            f"{path}: {value} to {account}, (please |)through {tool.mention}",
        )
    )

    def call(who: str, n: int, *, last: bool = False) -> str:
        given = f"{to} {who} {amount} {n}"
        return f"{name} {verb} " + (f"{path} {given}" if last else f"{given} {path}")

    return Work(
        text,
        (call(account, value),),
        (holds(path, wanted),),
        (*tool.files, text_file(path, rows)),
        (path,),
        (),
        (
            (call(account, value + 1),),
            (call(account, value), call(account, value)),
            (f"echo '{account} {value}' >> {path}",),
        ),
        (f"cat {path}", f"tail -n 1 {path}"),
        ways=((call(account, value, last=True),),),
        learn=tool.learn,
    )


_STRIKE = """\
new=$(awk -v i="$item" '$0 == "[ ] " i { $0 = "[x] " i } /^open: / { $0 = "open: " $2 - 1 } { print }' "$from")"""


def strike(request: Request) -> Work:
    """Strike an item off a list, which keeps a count of what is left in its last line."""
    d = request.draw
    path, name = d.file("todo", "items", "list"), d.program()
    verb = d.verb(("strike", "tick", "cross", "finish", "mark", "scratch"))
    option = "--" + d.verb(("item", "what", "entry", "label", "which"))
    items = d.nouns(d.number(3, 6))
    done = d.pick(items)
    before = [*(f"[ ] {item}" for item in items), f"open: {len(items)}"]
    after = [*(f"[{'x' if item == done else ' '}] {item}" for item in items), f"open: {len(items) - 1}"]
    body = "\n".join(
        [
            f'[ "${{1-}}" = {verb} ] || wrong "unknown command ${{1-}}"; shift',
            arguments([(option, "item")], ["from"]),
            '[ -n "$item" ] || wrong "no item was named"',
            readable(name, "from"),
            'grep -qxF "[ ] $item" "$from" || { echo "' + name + ': $item is not open" >&2; exit 4; }',
            _STRIKE,
            'printf "%s\\n" "$new" > "$from"',
        ]
    )
    tool = utility(
        d,
        name,
        d.pick(("check lists", "ticking off", "open items", "item lists", "to-do lists")),
        [
            (
                f"{verb} {option} NAME LIST",
                d.phrase(
                    "(strike|tick|cross|close) (one item|an item|items)(, recount|, update count|, "
                    "count anew|, count again||)"
                ),
            ),
            (option, d.phrase("(item name|which item|name as listed|name on it|name it bears|item)")),
        ],
        body,
        (verb, option),
    )
    text = d.wording(
        (
            f"(Strike|Tick|Cross) {done} off {path} with {tool.mention}",
            f"{done} is (done|finished|settled): (mark|tick) it in {path} by {tool.mention}",
            f"In {path}, {done} (is no longer open|has been dealt with). (Say so|Mark that) with {tool.mention}",
            f"(Use|Call|Have) {tool.mention} to (strike|close|tick) {done} in {path}",
        )
    )

    def call(item: str, *, last: bool = False) -> str:
        return f"{name} {verb} {path} {option} {item}" if last else f"{name} {verb} {option} {item} {path}"

    other = next(item for item in items if item != done)
    return Work(
        text,
        (call(done),),
        (holds(path, after),),
        (*tool.files, text_file(path, before)),
        (path,),
        (),
        ((call(other),), (f"sed -i 's/. . {done}$/[x] {done}/' {path}",), (f"sed -i '/{done}/d' {path}",)),
        (f"cat {path}", f"grep {done} {path}"),
        ways=((call(done, last=True),),),
        learn=tool.learn,
    )


def weave(request: Request) -> Work:
    """Weave two files line by line into a third."""
    d = request.draw
    n = d.number(3, 5)
    left, right, out, name = d.file("txt", "left"), d.file("txt", "right"), d.file("txt", "woven"), d.program()
    a, b = d.nouns(n), d.nouns(n)
    first, second = "--" + d.verb(("warp", "first", "left", "one")), "--" + d.verb(("weft", "second", "right", "two"))
    body = "\n".join(
        [
            arguments([(first, "a"), (second, "b")], []),
            '[ -n "$a" ] && [ -n "$b" ] || wrong "two files are needed"',
            readable(name, "a"),
            readable(name, "b"),
            'paste -d \'\\n\' "$a" "$b"',
        ]
    )
    tool = utility(
        d,
        name,
        d.pick(("weaving files", "interleaving files", "file weaving")),
        [
            (f"{first} FILE {second} FILE", d.phrase("(print|write) lines of both in turn")),
            (first, d.phrase("the file that (begins|leads)")),
            (second, d.phrase("the file that (follows|comes after)")),
        ],
        body,
        (first, second),
    )
    text = d.wording(
        (
            f"(Weave|Interleave) {left} and {right} with {tool.mention}, {left} first; (save|write) it as {out}",
            f"{out}: {left} and {right} (woven|interleaved) by {tool.mention}, beginning with {left}",
            f"(Let|Have) {tool.mention} weave {right} into {left}; {left} leads. (Keep|Store) the result in {out}",
        )
    )
    fixtures = (text_file(left, a), text_file(right, b))
    return Work(
        text,
        (f"{name} {first} {left} {second} {right} > {out}",),
        (holds(out, [x for pair in zip(a, b, strict=True) for x in pair]), *map(untouched, fixtures)),
        (*tool.files, *fixtures),
        (left, right),
        (out,),
        (
            (f"{name} {first} {right} {second} {left} > {out}",),
            (f"cat {left} {right} > {out}",),
            (f"paste {left} {right} > {out}",),
        ),
        (f"cat {out}",),
        ways=((f"{name} {second} {right} {first} {left} > {out}",),),
        learn=tool.learn,
    )


AUTHORS: dict[str, Author] = {name: transform(row) for name, row in TABLE.items()} | {
    "tool_book": book,
    "tool_strike": strike,
    "tool_weave": weave,
}
