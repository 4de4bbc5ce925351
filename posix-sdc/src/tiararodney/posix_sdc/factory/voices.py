"""The voices that directives speak in: a ticket, a colleague, a list, a letter, a contract; and how they forbid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.vocabulary import PEOPLE, wordings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

BANS = wordings(
    """
    - (Do not|Don't|Never) (create|make|write|add|produce) {0}.
    - (Nothing|No file) (named|called) {0} (may be made|is allowed|may appear|is wanted).
    - {0} (must not exist|may not exist|must be absent|has to be gone)
      (afterwards|in the end|when you leave|at the end).
    - {0} (is forbidden|is off limits|must not be created|must stay absent|is banned).
    - (Hands off|Stay clear of|Keep away from|Avoid|Steer clear of) {0}; (it|that file) (must|may|shall) not
      (exist|appear|be there|turn up).
    - (However|But): no file {0}(, please| here|).
    - {0} is (reserved|somebody else's|another team's|taken|spoken for):
      (leave it alone|do not create it|it may not appear).
    - (A|Any) file {0} would (upset|break|confuse) (others|the next job|monitoring);
      (do not make it|leave it out|avoid it).
    - (Let there be|See that there is|We want) no {0} (here|around|lying about|left)( afterwards| when you leave|).
    - (Not wanted|Unwanted|Not needed|Not allowed)( here| at all| in the end|): {0}.
    - (Under no circumstances|On no account) (create|make|write|add) {0}.
    - (Make sure|See to it|Take care|Check) that {0} (does not exist|is absent|never appears|is not created).
    - {0}: (forbidden|banned|not allowed|must not exist|do not create it|never).
    - (Creating|Making|Writing|Adding) {0} is (forbidden|prohibited|not allowed|ruled out).
    """
)


NOTHING_ELSE = ("(Create|Make|Leave|Add) no other (file|files).", "(Nothing else|No other file) is (needed|wanted).")
# What to do with the rest when one step cannot be done: every directive of several steps says so, and the first of
# several directives, whether or not this happens. {noun} is a step, {bad} what makes it impossible.
_STOP_STEPS = wordings(
    """
    - If (any|some|one) {noun} {bad}, (stop there|go no further|finish there).
    - When (any|one) {noun} {bad}, (leave|forget|drop) (the rest|all later ones|what follows).
    - (Stop|Halt|Finish) (at|with) (the first|any|whichever) {noun} that {bad}.
    - The first {noun} that {bad} (ends the work|is the last you attempt|closes the list).
    - Should one {noun} (fail|turn out impossible|prove impossible), (skip|omit|ignore) (those after it|all
      later ones|whatever follows).
    - (Keep|Stick) to this (order|sequence), and (stop|break off|halt|finish) (where|when|if) anything {bad}.
    - (Each|Every) {noun} (relies|builds|depends) on (those before it|its predecessors|what precedes it):
      (after|upon) a failure, (do no more|stop).
    - (Do|Attempt|Try) nothing (beyond|past|after) (the point|the place|any {noun}) where (one|something|it) {bad}.
    - (As soon as|The moment|Once) (one|any) {noun} {bad}, (you are done|you may leave|finish).
    - (No {noun}|Nothing) (need be done|is required|is wanted) (after|beyond) one (that|which) {bad}.
    - (A failure|An obstacle|Any failure) (excuses|cancels|voids) (all that follows|every later {noun}|the rest).
    - (Please go|Go|Work) (from top to bottom|through these in turn|down the list), (stopping|halting)
      (if|where|when) one {bad}.
    - (Only go on|Go on only|Continue only|Carry on only) (while|provided|if) (things work|nothing
      fails|all goes well).
    - (What|Whatever) (comes after|follows) (a failed|an impossible) {noun} (can wait|is not needed|does not matter).
    - Is (one|any) {noun} impossible? (Then|In that case) (the rest can wait|leave the others alone|do not go on|stop).
    - Leave (later|the following|the remaining) {noun}s (alone|untouched|for another day) (once|when|if) one {bad}.
    - (It is fine|It is all right|Feel free) to (finish|leave|stop) early (if|when|where) one {noun} {bad}.
    - (Nobody|No one) (needs|wants) (the remaining|any later|further) {noun}s (once|when|if) one {bad}.
    - (One|Any) {noun} {bad}? (Stop|Finish|Break off) (there|at that point|then).
    - (Do not|Don't|Never) (jump|skip) ahead: where one {noun} {bad}, (stop|finish).
    - (Proceed|Continue|Carry on) (only if|only while|provided) the (last {noun}|{noun} before)
      (worked|succeeded|went well).
    - (The order matters|Order counts|Mind the order); a {noun} that {bad} (stops everything|is the end).
    - (Anything|Whatever comes|What comes) (below|after) (a failed|a blocked|an impossible) {noun} (can be
      left|is dropped|is void).
    - (You can|You may|Please) (quit|stop|break off) (where|when|if) (something|anything) {bad}.
    - (Further|Later) {noun}s (assume|build on|rely on|need) (the earlier ones|earlier ones|those before);
      (where one {bad}|when one {bad}|without them), (stop|do not go on).
    - If (you are blocked|you get stuck|you cannot go on), (end|finish) (there and then|with that {noun}).
    - (Work in order|Take them in turn|Go one by one), until (one|something) {bad}.
    - (There is no point in|Do without|Refrain from) (going on|continuing|further work) (when|after|once) one
      {noun} {bad}.
    - (Consider|Regard|Treat) (the rest|everything later|what remains) as (cancelled|withdrawn|void)
      (if|once|when) (one|a) {noun} {bad}.
    - (An impossible|A blocked|A hopeless) {noun} (ends it|is where you stop|means you stop).
    - (Cannot|Can't) do (one|some {noun})? (Skip everything|Omit what comes|Leave all) (after|below) it.
    - (We|I) (expect|ask) nothing (more|further) (once|after) a {noun} {bad}.
    """
)
_STOP_DIRECTIVES = wordings(
    """
    - (More|Others|Further ones) (follow|come) (below|after this|next); (stop|finish) (where|when|if) something {bad}.
    - (Work|Go) (through|down) (this|our|today's) list (from the top|in order|in sequence) until
      (one|something|an entry) {bad}.
    - (Take|Do|Handle) the (entries|items|orders) in sequence; (one|any) that {bad} (ends the
      work|finishes the list|is the last).
    - (Also|Then|Afterwards), (see to|take|turn to) (the other entries|what else there is); (stop|finish) if any {bad}.
    - Should (an|any) entry (fail|be impossible|prove impossible), (later|further) (ones|entries) (lapse|can wait).
    - (You will find|Expect|There will be) (more|further) (entries|orders); (stop|halt) (where|when|if) one {bad}.
    - This is (not the only entry|one of several entries|part of a series): (stop|halt|finish) (where|when|if)
      something {bad}.
    - (All that is|Everything) (on the list|listed|in the queue) is (wanted|due|needed), (unless|until) (an
      entry|one|something) {bad}.
    - (Then|Afterwards) (take|do) the (following entries|next entries|entries after it), and (stop|quit)
      (when|where|if) one {bad}.
    - (Nobody|No one) (expects|needs) (any entry|anything|more) (after|past|beyond) (the first
      which|an entry which|one that) {bad}.
    - This is (the first|one) of (several|a few|many) entries; (the first that|whichever|any that) {bad} (ends
      the work|is where you stop|is your last).
    - (A|Any|One) (hopeless|blocked|failed) entry (frees|excuses|releases) you from
      (later ones|the later ones|those below it).
    - (Go|Work) (entry by entry|from one entry to the next) (as long as|while|provided) (they work|that
      works|it is possible).
    - (Skip|Leave out|Omit) (none of them|no entry|nothing), but (stop|finish) (when|where|if) something {bad}.
    - (Other|More) entries (wait|are waiting) (too|as well): (do them|take them|see to them) (in turn|in
      order|one by one) (until|unless) one {bad}.
    - (The list|It) (goes on|continues) (after|below) this; (stay with|keep at|carry on with) it until
      something {bad}.
    - (When|Once) (this|it) is done, (see|take|turn to) (the next entry|what is next|the following one); (a failure|an
      obstacle|a dead end) (ends|closes) it all.
    - (The rest|The remainder|More) of (the list|your list|these) (matters|counts) only (if|once|when)
      (this|what came before) (worked|succeeded|went through).
    - (You have|There is|Expect) more (on your list|on the list|in store). (Give up|Leave|Drop) (the
      rest|that|all of it) (if|where) (an entry|one) {bad}.
    - (Later|Lower) entries (rely|build|depend) on (this|earlier ones): (do none|skip them all|try none)
      after (a failed one|a failure|an obstacle).
    - (Do not|Don't) (forget|overlook|miss) (the other entries|other entries|the rest), (unless|except
      when|except where) one {bad}.
    - (Entries|Orders) (after|below) (an impossible|a failed|a blocked|an unworkable) one (are
      void|lapse|should be left).
    - (Complete|Finish|Do) (the whole list|all entries|everything listed), or (as much|as much of it) as (works|can
      be done|you can).
    - (The entries|These entries) (belong together|form one job): (where|when|if) one {bad}, (leave|drop) (the
      others|all others|later ones).
    - (Take|Handle) (the whole list|all of it|all entries) in (order|sequence); (an obstacle|a failure)
      (anywhere|in any entry) (ends|stops) it.
    """
)
_NOUNS = ("step", "point", "part", "task", "piece", "job", "stage", "line")
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
    "goes wrong",
    "leads nowhere",
    "cannot succeed",
    "stalls",
    "cannot start",
    "falls through",
    "isn't possible",
    "won't succeed",
    "cannot proceed",
    "can't finish",
    "gets nowhere",
    "isn't doable",
)


def where_to_stop(draw: Draw, *, more: bool = False) -> str:
    """Return a sentence that says what to do where a step, or one of several directives, cannot be done.

    Args:
        draw: source of choices.
        more: it stands in the first of several directives and is about these.
    """
    template = draw.say(_STOP_DIRECTIVES if more else _STOP_STEPS)
    return template.replace("{noun}", draw.say(_NOUNS)).replace("{bad}", draw.say(_BAD))


def ban(draw: Draw, path: str) -> str:
    """Return a sentence that forbids a file to be there in the end."""
    return draw.say(BANS).format(path)


def nothing_else(draw: Draw) -> str:
    """Return a sentence that forbids any other file."""
    return draw.say(NOTHING_ELSE)


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
    "|(Go on|Continue|Carry on|Proceed) (like this|as follows|so|thus)):"
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
    thanks = draw.phrase(
        "(Thanks!|Cheers.|Ta.|Thank you!|Thanks, really!|Many thanks.|Much obliged.|Thanks in advance.|Bye!||)"
    )
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
        "(perform|carry out|fulfil) (this|the following|what follows|the items below|the clauses below|all of this)"
        "(:| in full:| in sequence:)"
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
