"""The voices that directives speak in: a ticket, a colleague, a list, a letter, a contract; and how they forbid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.vocabulary import PEOPLE, wordings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

BANS = wordings(
    """
    - (Do not|Don't|Never) (create|make|write|add|leave) {0}.
    - (Nothing|No file) (named|called) {0} (may be made|is allowed|may appear|is wanted).
    - {0} (must not exist|may not exist|must be absent|has to be gone) (afterwards|in the end|when you leave|then).
    - {0} (is forbidden|is off limits|stays uncreated|must stay absent|is banned|is out).
    - (Hands off|Stay clear of|Keep away from|Avoid|Beware of) {0}; (it|that file) (must|may|shall) not
      (exist|appear|be there|come about).
    - (However|But|Only|Mind): no file {0}(, please| here|).
    - {0} is (reserved|somebody else's|another team's|taken|spoken for): (leave it alone|create none|it may not appear).
    - (A|Any) file {0} would (upset|break|confuse) (others|the next job|monitoring); (make none|leave it out|avoid it).
    - (You|We) (may|can) have (no|not any) {0} (here|around|lying about|in the way).
    - (Absent|Missing|Not there|Gone) in the (end|result): {0}.
    - (Under no circumstances|On no account|In no case) {0}.
    - (Make sure|See to it|Take care|Check) that {0} (does not exist|is absent|never appears|is not created).
    - {0}: (forbidden|banned|not allowed|must not exist|no|never).
    - (Creating|Making|Writing|Leaving) {0} is (forbidden|prohibited|not allowed|ruled out).
    """
)


NOTHING_ELSE = ("(Create|Make|Leave|Add) no other (file|files).", "(Nothing else|No other file) is (needed|wanted).")
# What to do with the rest when one step cannot be done: every directive of several steps says so, and the first of
# several directives, whether or not this happens. {noun} is a step, {bad} what makes it impossible.
_STOP_STEPS = wordings(
    """
    - (If|When|Where|Once) (a|one|any|some) {noun} {bad}, (stop|halt|end|quit|finish) (there|at it|right there).
    - (The first|Your first|A first) (impossible|blocked|hopeless|stuck) {noun} (ends|closes|finishes|concludes)
      (it|everything|this|all).
    - (Work|Go|Carry on) (downwards|in sequence|from the top) (until|till) (something|one|a {noun}) {bad}.
    - (Stuck|Blocked|No way|Dead end)? (The rest|The others|What remains|More) (can wait|may wait|lapses|is off).
    - (Each|Every) {noun} (after|behind|below) (a blocked|an unworkable|a failed) one
      (falls away|lapses|is void|can wait|drops out).
    - (No|Never any) (skipping|jumping ahead): (stop|halt|end) (where|when|once) (it|something) {bad}.
    - (Strictly|Only|Always) in sequence; (stop|end|halt) (at|with|before) (a failure|an obstacle|a dead end).
    - (Each|Every) {noun} (needs|presumes|builds on) (its predecessor|those above): (if|when|once) one {bad},
      (stop|end|halt).
    - (Dead end|Obstacle|Impossible)? (Stop|Leave it|Halt) (there|then); nothing (below|later|further) (counts|matters).
    - (Impossible|Blocked|Hopeless): (stop|end|halt), (whatever|no matter what) (follows|is left).
    - (Proceed|Go on|Continue) (unless|until) (one|a {noun}|something) {bad}; (there|then) (stop|halt|end).
    - (One|A|Any) (failure|obstacle|dead end) (cancels|voids|excuses) (all later ones|everything below|what follows).
    - (Singly|In turn|In sequence), (while|so long) (they work|all goes|it works).
    - (Whatever|What|All that) (follows|succeeds) an (impossible|unworkable) {noun} (is off|lapses|can wait|is void).
    - (Break off|Stop|Call it a day|Leave) (once|when|where) (a|one|any) {noun} {bad}.
    - (A|Some|One) {noun} {bad}? (Then stop|So end|That is all then|Break off).
    - (You may|Feel free to|Do) stop (if|once|when) (a|one) {noun} {bad}; (later ones|others|more) (lapse|can wait).
    - (Later|Lower|Further) ones (need|presume|use) (earlier ones|those above): none
      (after|past|beyond) a (blocked|failed) {noun}.
    """
)
_STOP_DIRECTIVES = wordings(
    """
    - (More|Others|Further ones|Another) (follow|wait|come) (below|after this|next)(,|;) (until|as far as) one {bad}.
    - (The|This|Our|Today's) list (runs|goes|is worked) (downwards|from the top|top down) and (ends|stops)
      (where|when|once) one {bad}.
    - (Entries|Items|Orders) (come|go|count) in sequence; (a blocked|an unworkable|a hopeless|a doomed) one
      (ends it|closes the list|is the end).
    - (Also|Moreover|Besides): (mind|take|see) (the others|what else is listed), (in sequence|singly), while
      (possible|none {bad}).
    - (If|When|Once) (an entry|any entry|one of them) {bad}, (later|further|lower) (ones|entries) (lapse|can wait).
    - (There are|You will find|Expect) (others|more|further entries); (stop|halt|end) (where|when) one {bad}.
    - (Not the only one|Not alone|One of several|Part of a series): (stop|end) (once|when|where) one {bad}.
    - (All|Everything) listed is (due|wanted), (top to bottom|in sequence), (unless|until) (one|something) {bad}.
    - (Then|Afterwards|Next) (take|do|see) (the following ones|what comes next); (stop|end|halt) (if|when|once)
      one {bad}.
    - (Nobody|No one) (expects|needs) (entries|orders|items) (after|past|beyond)
      (an impossible|a blocked|a hopeless) one.
    - (First of several|One of some|Among others): the first (impossible|blocked) one (ends|closes) (it all|the day).
    - (A|Any) (hopeless|blocked|stuck) entry (frees|excuses|relieves) you (of|from) (later ones|those below|the rest).
    - (Entry by entry|In listed order|Downwards), and (stop|halt) (once|when|where) (it|one|an entry) {bad}.
    - (Skip|Jump over) none: (when|if|once) an entry {bad}, (stop|you are through|the list is over).
    """
)
_NOUNS = ("step", "point", "item", "part", "task", "piece", "job", "stage")
_BAD = (
    "fails",
    "is impossible",
    "is blocked",
    "won't work",
    "proves impossible",
    "is hopeless",
    "cannot work",
    "gets stuck",
    "breaks down",
    "is unworkable",
    "goes nowhere",
    "is stuck",
    "cannot succeed",
    "stalls",
    "is barred",
)


def where_to_stop(draw: Draw, *, more: bool = False) -> str:
    """Return a sentence that says what to do where a step, or one of several directives, cannot be done.

    Args:
        draw: source of choices.
        more: it stands in the first of several directives and is about these.
    """
    template = draw.pick(_STOP_DIRECTIVES if more else _STOP_STEPS)
    return draw.phrase(template.replace("{noun}", draw.pick(_NOUNS)).replace("{bad}", draw.pick(_BAD)))


def ban(draw: Draw, path: str) -> str:
    """Return a sentence that forbids a file to be there in the end."""
    return draw.phrase(draw.pick(BANS)).format(path)


def nothing_else(draw: Draw) -> str:
    """Return a sentence that forbids any other file."""
    return draw.phrase(draw.pick(NOTHING_ELSE))


def sentence(text: str, more: str = "") -> str:
    """End a text as a sentence, and let another follow."""
    return f"{text}{'' if text[-1] in '.?!' else '.'}{' ' if more else ''}{more}"


def voiced(draw: Draw, texts: Sequence[str], closing: str = "") -> str:
    """Return the words of a directive.

    Args:
        draw: source of choices.
        texts: of its pieces of work, in their order.
        closing: what holds for all of them.
    """
    if len(texts) == 1:
        style = draw.weighted({"plain": 12, "chat": 2, "mail": 2, "ticket": 2, "contract": 1})
    else:
        style = draw.weighted(
            {"numbered": 4, "dashes": 2, "prose": 4, "chat": 2, "mail": 2, "ticket": 2, "contract": 2}
        )
    if style == "mail":
        return _mail(draw, texts, closing)
    said = _STYLES[style](draw, texts)
    if not closing:
        return said
    return f"{said}\n{closing}" if "\n" in said else sentence(said, closing)


def _plain(draw: Draw, texts: Sequence[str]) -> str:  # noqa: ARG001 - the signature of a style
    return texts[0]


def _numbered(draw: Draw, texts: Sequence[str]) -> str:
    mark = draw.pick(("{}. ", "{}. ", "{}) ", "({}) ", "{}: ", "#{} "))
    return "\n".join(f"{mark.format(i)}{text}" for i, text in enumerate(texts, 1))


def _dashes(draw: Draw, texts: Sequence[str]) -> str:
    mark = draw.pick(("- ", "* ", "+ ", "-- "))
    head = draw.phrase(
        "((In|Keep|Mind) (this|the given|that|my) (order|sequence):|(To do|Steps|Jobs|Work|List|One by one|In turn):|)"
    )
    return "\n".join([*([head] if head else []), *(f"{mark}{text}" for text in texts)])


_THEN = (
    "((Then|Next|After that|Afterwards|Second step|Once done|Following that|That done|Further|Now)"
    "|(Go on|Continue|Carry on|Proceed) (with this|as follows|so)):"
)
_LAST = "(Last|Finally|In closing|Lastly|To finish|At last|Last step|To close|Closing step):"


def _prose(draw: Draw, texts: Sequence[str]) -> str:
    middle = [sentence(f"{draw.phrase(_THEN)} {text}") for text in texts[1:-1]]
    return " ".join([sentence(texts[0]), *middle, f"{draw.phrase(_LAST)} {texts[-1]}"])


def _chat(draw: Draw, texts: Sequence[str]) -> str:
    hello = draw.phrase("(Hi|Hey|Morning|Hello|Hi there|Good day|Psst|OK)(,|!| -)")
    more = [
        f"{draw.phrase('(Oh, and|Also|And then|Plus|Then|That done|Right after|And|Next up)(:| -|,|...)')} {text}"
        for text in texts[1:]
    ]
    thanks = draw.phrase("(Thanks!|Cheers.|Ta.|Thank you!|You're the best.|Many thanks.||)")
    return " ".join([hello, *map(sentence, (texts[0], *more)), *([thanks] if thanks else [])])


def _mail(draw: Draw, texts: Sequence[str], closing: str) -> str:
    hello = draw.phrase("(Hello|Dear colleague|Hi all|Dear operator|Good morning|Hello again|Dear all),")
    body = sentence(texts[0]) if len(texts) == 1 else draw.pick((_numbered, _dashes, _prose))(draw, texts)
    body += f"\n{closing}" if closing else ""
    bye = draw.phrase("(Regards|Best|Kind regards|Yours|Thanks|Best wishes|With thanks|So long)")
    return f"{hello}\n\n{body}\n\n{bye}, {draw.pick(PEOPLE).capitalize()}"


def _ticket(draw: Draw, texts: Sequence[str]) -> str:
    head = draw.phrase(
        f"((Title|Subject|Topic|Re): {draw.noun()}\n|)((Priority|Prio|Severity|Urgency): (low|normal|high|2|3)\n|)"
        f"((Reporter|From|Opened by): {draw.pick(PEOPLE)}\n|)(Request|Description|What|Task|Work|Text|Details):"
    )
    return f"{head} {texts[0]}" if len(texts) == 1 else f"{head}\n{_numbered(draw, texts)}"


def _contract(draw: Draw, texts: Sequence[str]) -> str:
    mark = draw.pick(("§ {}  ", "Article {}. ", "Clause {}: ", "({})  ", "Section {}. "))
    head = draw.phrase(
        "((The account|The operator|The recipient|The bearer) (shall|undertakes to|agrees to) "
        "(perform|carry out|fulfil) (this|the following|what follows|the below)(:| in full:| in sequence:)"
        "|(Whereas work is due|Subject to audit|As agreed|By order|Pursuant to policy):)"
    )
    return "\n".join([head, *(f"{mark.format(i)}{sentence(text)}" for i, text in enumerate(texts, 1))])


_STYLES = {
    "plain": _plain,
    "numbered": _numbered,
    "dashes": _dashes,
    "prose": _prose,
    "chat": _chat,
    "ticket": _ticket,
    "contract": _contract,
}
