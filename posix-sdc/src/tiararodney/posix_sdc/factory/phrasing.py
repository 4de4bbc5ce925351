"""Other words for what many directives say, so that no phrase is known from one world to the next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

# A pattern, and what stands in its place.
_MENDED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r" (?:is to|should|must|has to|ought to|shall|will) (?:hold|contain)\b",
        (" should hold", " must hold", " has to contain", " gets", " receives", " takes", " wants", " needs", ":", ":"),
    ),
    (
        r" (?:is to|should|must|has to|ought to) list\b",
        (" should list", " must list", " ought to list", " needs to list", " shall list", ":"),
    ),
    (r"\b(?:is|are) to be\b", ("should be", "must be", "ought to be", "had better be", "shall be", "needs to be")),
    (r"\b(?:is|are) to (?=[a-z]+\b)", ("should ", "must ", "ought to ", "shall ")),
)
# A good part of all directives is about the lines of a file.
_LINES_OF = (
    *("lines of", "lines in", "all lines of", "all lines in", "the lines within", "lines found in"),
    *("the rows of", "the rows in", "all rows of", "all rows in"),
    *("the entries of", "all entries of", "the records of", "the records in"),
)
# A pattern, and what may stand in its place as well; \1 is what a group has taken.
_SAME: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\b(?:has|have) to (?=[a-z]+\b)", ("must ", "should ", "ought to ", "shall ")),
    (r"\bthe lines of\b", _LINES_OF),
    (r"\b(?:ought|has) to be\b", ("should be", "must be", "shall be", "ought to be")),
    (
        r"\b(?:every|each) line of\b",
        ("every line in", "each line in", "every row of", "each row in", "every row in", "each single line of"),
    ),
    (
        r"(?<!front )(?<!beginning )(?<!instead )\bof (?:every|each) line\b(?! break)",
        ("per line", "in each line", "in every line", "of all lines", "on each line", "on every line", "line by line"),
    ),
    (
        r"\band save (it|the result|them) (?:as|in)\b",
        (
            r"and store \1 as",
            r"and keep \1 as",
            r"and call \1",
            "and name the result",
            "; name:",
            "; call that",
            "; the outcome is",
            r"and file \1 under",
            "; result:",
            "; output:",
        ),
    ),
    (r"\bsave (?:it|the result|them) (?:as|in)\b", ("store that in", "keep that in", "file that as", "leave that in")),
    (
        r"\band write the (number|sum|total|result) to\b",
        (
            r"and put the \1 into",
            r"; the \1 goes to",
            r"and leave the \1 in",
            "and note it in",
            r"; \1 to",
            "; the answer belongs into",
            r"and store the \1 in",
            "; write the answer to",
        ),
    ),
    (r"\bPut the (number|sum|total) into\b", (r"The \1 goes to", r"Note the \1 in", "The answer goes to", "Answer in")),
    (r"\bin front of\b", ("ahead of", "before", "to the left of")),
    (
        r"\bthe last line\b",
        ("the final line", "the closing line", "the last row", "the lowest line", "the final row"),
    ),
    (r"\bthe first line\b", ("the top line", "the opening line", "line 1", "the first row", "the head line")),
    (
        r"\bthe first (\d+) lines\b",
        (r"the top \1 lines", r"\1 lines from the top", r"lines 1 to \1", r"\1 leading lines"),
    ),
    (r"\bthe last (\d+) lines\b", (r"the bottom \1 lines", r"\1 lines from the end", r"\1 closing lines")),
    (
        r"\bat the end of\b",
        ("at the very end of", "at the bottom of", "at the tail of", "at the foot of", "as the end of", "to finish"),
    ),
    (r"\b(?<!at )the end of\b", ("the bottom of", "the tail of", "the foot of")),
    (r"\ban empty file\b", ("a blank file", "a file of no bytes", "a zero-length file", "a file without content")),
    (r"(?<!In )\bhow many lines\b", ("what number of lines", "the count of lines", "the line count:")),
    (r"\bthe number of\b", ("the count of", "the tally of", "the total of")),
    (r"\bthe names of\b", ("names of", "all names of", "every name of", "the complete names of", "the full names of")),
    (r"\bthe second word\b", ("word 2", "word number two", "word two", "the word after the first")),
    (r"\bthe second column\b", ("column 2", "column two", "the column after the first", "column number 2")),
    (r"\bthe numbers in\b", ("the numbers from", "all numbers in", "the figures in", "the values in")),
    (r"\bshould go to\b", ("belongs into", "is meant for", "goes to")),
    (
        r"\bthe value of\b",
        ("the content of", "the current value of", "what is inside", "the setting of", "the contents of"),
    ),
    (r"\bthe folder\b", ("the directory", "folder", "directory", "the subfolder", "the subdirectory")),
    (r"\bthe files (of|in)\b", (r"files \1", r"all files \1", r"all the files \1", r"every file \1")),
    (r"\bthe tickets in\b", ("tickets in", "all tickets in", "the tickets under", "tickets below")),
    (r"\bseparated by commas\b", ("divided by commas", "comma-separated", "split by commas", "parted by commas")),
    (
        r"\bcommas between them\b",
        ("commas in between", "commas as glue", "a comma between each", "commas to part them"),
    ),
    (
        r"\bin upper case\b",
        (
            "in capitals",
            "in capital letters",
            "upper-cased",
            "all caps",
            "in large letters",
            "capitalised",
            "in CAPITALS",
        ),
    ),
    (r"\bin lower case\b", ("in small letters", "lower-cased", "without capitals")),
    (
        r"\bgroup and others\b",
        ("everybody else", "others and the group", "group or others", "anyone else", "all others"),
    ),
    (r"\bthe mode of\b", ("the permissions of", "the mode bits of", "the rights on")),
    (r"\bThe mode of\b", ("The permissions of", "The mode bits of", "The mode for")),
    (r"\bone a line\b", ("one per line", "each on its own line", "a line each", "line by line")),
    (r"\breverse order\b", ("backward order", "inverted order", "opposite order", "bottom-to-top order")),
    (r"\bAdd the line\b", ("Append the line", "Add a line", "Append a line", "Add this line:", "New line:")),
    (
        r"\bWrite (the|every|all|each) (?!word|text)",
        (r"Save \1 ", r"Dump \1 ", r"Copy out \1 ", r"Send \1 ", r"Output \1 "),
    ),
    (r"\b(Replace|Change) every\b", (r"\1 each", r"\1 any", r"\1 all of")),
    (r"\bthe other sections\b", ("other sections", "all other sections", "the remaining sections", "the rest")),
    (r"\bas they are\b", ("untouched", "alone", "the same", "as before")),
    (r"\bunder the name\b", ("as", "by the name", "named", "called")),
    (r"\bone line with\b", ("just one row with", "one row with", "one long line with", "just one line with")),
    (r"\bJoin\b", ("Merge", "Combine", "Collapse", "Pull together")),
)
_BEGINNING = re.compile(r"(?:^|(?<=[.?!] ))(?=(?:a|the|our|this) )\w")
_PATTERNS = tuple(
    [(re.compile(pattern), others) for pattern, others in _MENDED]
    + [(re.compile(pattern), (r"\g<0>", *others)) for pattern, others in _SAME]
)


def vary(text: str, rng: random.Random) -> str:
    """Return a text in which phrases that many directives have are said in one of several ways.

    Args:
        text: of a directive.
        rng: source of choices.
    """
    for pattern, others in _PATTERNS:
        text = "".join(_parts(pattern, others, text, rng))
    text = text.replace(" ;", ";").replace(" ,", ",")
    return _BEGINNING.sub(lambda m: m[0].upper(), text)


def _parts(pattern: re.Pattern[str], others: tuple[str, ...], text: str, rng: random.Random) -> Iterator[str]:
    """Yield a text in parts, each match in other words."""
    at = 0
    for match in pattern.finditer(text):
        yield text[at : match.start()]
        yield match.expand(rng.choice(others))
        at = match.end()
    yield text[at:]
