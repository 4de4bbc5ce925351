"""What an inspection shows, in the text and on the page: sessions, figures, findings, and how an endpoint compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render.preview import Run, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiararodney.sekft.render import Example, Tokenizer
    from tiararodney.sekft.trajectories import Session

_PLACES = 5


@dataclass(frozen=True)
class Finding:
    """One line: what was found, how often, and where first."""

    name: str
    count: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Findings of one kind.

    Args:
        title: what they are.
        findings: a line each.
        serious: whether sessions are lost, or an evaluation on held-out data is worth nothing.
    """

    title: str
    findings: tuple[Finding, ...]
    serious: bool


@dataclass(frozen=True)
class Shown:
    """A session for people.

    Args:
        name: its id.
        origin: its archetype, file and line.
        examples: the runs of each of its examples.
    """

    name: str
    origin: str
    examples: tuple[tuple[Run, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return sum(example[-1].end for example in self.examples)

    @property
    def trained(self) -> int:
        """Trained tokens of all examples."""
        return sum(run.end - run.start for example in self.examples for run in example if run.kind == "trained")


def show(tok: Tokenizer, session: Session, examples: Sequence[Example]) -> Shown:
    """Return a session with its mask."""
    origin = "  ".join(text for text in (session.archetype, session.source) if text)
    return Shown(session.id or "(no id)", origin, tuple(tuple(runs(tok, e)) for e in examples))


def figures(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures of a report: what each counts, its number, and what is to say of it."""
    limit = report["over_max_length"]
    return [
        (
            "sessions",
            f"{report['rendered']:,}",
            f"rendered of {report['sessions']:,} selected of {report['read']:,} read",
        ),
        ("examples", f"{report['examples']:,}", f"{report['split_sessions']['count']:,} sessions split"),
        ("tokens", f"{report['tokens']:,}", f"{report['trained_tokens']:,} trained ({report['trained_share']:.1%})"),
        ("commands", f"{report['commands']:,}", f"trained, {report['masked_replies']['count']:,} masked"),
        ("too long", f"{limit['count']:,}", f"examples over --max-length {limit['max_length']:,}"),
    ]


def sections(report: Mapping[str, Any]) -> list[Section]:
    """Return the kinds of findings that there are, serious ones first.

    Args:
        report: the JSON values that `inspect.run` prints.
    """
    control = ((f"{c['token']} in {c['where']}", c) for c in report["control_token_text"])
    merges = ((repr(m["token"]), m) for m in report["border_merges"])
    unread = ((f"{key!r} on a turn", tally) for key, tally in report["unread_keys"].items())
    kinds: list[tuple[str, bool, Iterable[Finding]]] = [
        ("refused", True, _tallies(report["refusals"].items())),
        ("dropped while reading", False, _tallies(report["dropped"].items())),
        ("left out of training", True, _tally("over --max-length", report["over_max_length"])),
        ("leaks between splits", True, (_named(kind, names) for kind, names in report["leaks"].items() if names)),
        ("duplicates", False, _tally("sessions seen before", report["duplicates"])),
        ("keys that are not read", False, _tallies(unread)),
        ("masked replies, kept as context", False, _tally("train: false or weight: 0", report["masked_replies"])),
        ("text of control tokens", False, _tallies(control)),
        ("tokens across the border of prompt and reply", False, _tallies(merges)),
        ("split into several examples", False, _tally("sessions", report["split_sessions"])),
    ]
    found = (Section(title, tuple(lines), serious) for title, serious, lines in kinds)
    return [section for section in found if section.findings]


def differences(comparison: Mapping[str, Any]) -> list[str]:
    """Return a line for each turn whose prompt at an endpoint is not the trained one."""
    return [_difference(d) for d in comparison["differences"]]


def verdict(comparison: Mapping[str, Any]) -> str:
    """Return in one line how an endpoint's prompts compare."""
    same = comparison["turns"] - len(comparison["differences"])
    unit = "token by token" if comparison["exact"] else "by the number of tokens"
    left_out = f", {comparison['too_long']} longer than its context left out" if comparison["too_long"] else ""
    return f"{same} of {comparison['turns']} turns are served as trained, {unit}{left_out} ({comparison['route']})"


def _difference(d: Mapping[str, Any]) -> str:
    where = f"{d['session']}, turn {d['turn']}"
    if d["refusal"]:
        return f"{where}: the server refuses the messages: {d['refusal']}"
    lengths = f"{d['trained_length']} tokens trained, {d['served_length']} served"
    if d["position"] is None:
        return f"{where}: {lengths}"
    trained, served = (repr(d[k]) if d[k] else "its end" for k in ("trained", "served"))
    return f"{where}: token {d['position']} trained {trained}, served {served}, behind {d['before']!r} ({lengths})"


def _tallies(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[Finding]:
    return (Finding(name, tally["count"], tuple(tally["places"])) for name, tally in rows)


def _tally(name: str, tally: Mapping[str, Any]) -> list[Finding]:
    return list(_tallies([(name, tally)])) if tally["count"] else []


def _named(kind: str, names: list[str]) -> Finding:
    return Finding(kind, len(names), tuple(names[:_PLACES]))
