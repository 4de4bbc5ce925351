"""What `--inspect` counts in a data set: how its sessions render, what is trained, and what looks wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render import (
    Example,
    Message,
    SessionRefused,
    Tokenizer,
    build_masked_examples,
    normalize_for_template,
)
from tiararodney.sekft.render.tokens import control_pattern
from tiararodney.sekft.sft.inspection.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.trajectories import Session

_PLACES = 5
"""How many places of each kind are named; all are counted."""
_BINS = 24
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


@dataclass
class Tally:
    """A count and the places of the first few."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str, n: int = 1) -> None:
        """Count `n` at a place."""
        self.count += n
        if len(self.places) < _PLACES:
            self.places.append(place)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {"count": self.count, "places": self.places}


def _tallies() -> defaultdict[Any, Tally]:
    return defaultdict(Tally)


@dataclass
class Survey:
    """Statistics and findings over sessions, filled one session at a time.

    Args:
        max_length: what training would drop: examples with more tokens.
        splits: kept trajectories of each split, those that a filter leaves out included.
        masked: replies that their record says not to train.
        unread: keys of turns that are not read.
    """

    max_length: int
    sessions: int = 0
    rendered: int = 0
    examples: int = 0
    tokens: int = 0
    trained: int = 0
    commands: int = 0
    terminals: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    archetypes: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    split: Tally = field(default_factory=Tally)
    too_long: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    masked: Tally = field(default_factory=Tally)
    refusals: defaultdict[str, Tally] = field(default_factory=_tallies)
    control: defaultdict[tuple[str, str], Tally] = field(default_factory=_tallies)
    merges: defaultdict[str, Tally] = field(default_factory=_tallies)
    unread: defaultdict[str, Tally] = field(default_factory=_tallies)
    ledger: Ledger = field(default_factory=Ledger)

    def observe(self, scenario_id: str, archetype: str, split: str) -> None:
        """Note in which split a kept trajectory is, also one that a filter leaves out: leaks are found by it."""
        self.splits[split or "(none)"] += 1
        if scenario_id:
            self.ledger.note("scenarios", scenario_id, split)
        if archetype:
            self.ledger.note("archetypes", archetype, split)

    def add(self, tok: Tokenizer, session: Session) -> list[Example]:
        """Render a session, count it, and return its examples (none where it is refused)."""
        self.sessions += 1
        self._count_record(session)
        self._count_control_text(tok, session)
        try:
            examples = build_masked_examples(tok, session.messages)
        except SessionRefused as refused:
            where = "" if refused.turn is None else f", turn {refused.turn}"
            self.refusals[refused.reason.value].add(f"{session.place}{where}: {refused.detail}")
            return []
        self.rendered += 1
        self._count_examples(session, examples)
        return examples

    def _count_record(self, session: Session) -> None:
        text = "\0".join(f"{m.role}\0{m.content}" for m in session.messages)
        if not self.ledger.is_new(text):
            self.duplicates.add(session.place)
        self.archetypes[session.archetype or "(none)"] += 1
        for key, n in session.unread_keys.items():
            self.unread[key].add(session.place, n)
        masked = sum(m.role == "assistant" and not m.train for m in session.messages)
        if masked:
            self.masked.add(session.place, masked)

    def _count_control_text(self, tok: Tokenizer, session: Session) -> None:
        pattern = control_pattern(tok)
        for i, message in enumerate(session.messages):
            for token, n in Counter(pattern.findall(message.content)).items():
                where = "commands" if message.role == "assistant" else "environment"
                self.control[token, where].add(f"{session.place}, turn {i}", n)

    def _count_examples(self, session: Session, examples: list[Example]) -> None:
        self.examples += len(examples)
        lengths = [len(e.input_ids) for e in examples]
        self.lengths += lengths
        self.tokens += sum(lengths)
        self.trained += sum(end - start for e in examples for start, end in e.spans)
        self.commands += sum(len(e.turns) for e in examples)
        self.terminals[_terminal(normalize_for_template(session.messages)[-1])] += 1
        if len(examples) > 1:
            self.split.add(f"{session.place}: {len(examples)} examples")
        over = [n for n in lengths if n > self.max_length]
        if over:
            self.too_long.add(f"{session.place}: {max(over)} tokens", len(over))
        for example in examples:
            if example.crossing:
                self.merges[example.crossing].add(f"{session.place}, turn {example.turns[-1]}")

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "sessions": self.sessions,
            "rendered": self.rendered,
            "examples": self.examples,
            "tokens": self.tokens,
            "trained_tokens": self.trained,
            "trained_share": self.trained / self.tokens if self.tokens else 0.0,
            "commands": self.commands,
            "terminals": dict(self.terminals),
            "splits": dict(sorted(self.splits.items())),
            **_distribution(sorted(self.lengths)),
            "masked_replies": self.masked.to_json(),
            "unread_keys": {k: v.to_json() for k, v in sorted(self.unread.items())},
            "split_sessions": self.split.to_json(),
            "over_max_length": {"max_length": self.max_length, **self.too_long.to_json()},
            "refusals": {k: v.to_json() for k, v in sorted(self.refusals.items())},
            "control_token_text": [
                {"token": t, "where": w, **v.to_json()} for (t, w), v in sorted(self.control.items())
            ],
            "border_merges": [{"token": t, **v.to_json()} for t, v in sorted(self.merges.items())],
            "duplicates": self.duplicates.to_json(),
            "leaks": {kind: self.ledger.leaks(kind) for kind in ("scenarios", "archetypes")},
            "archetypes": dict(sorted(self.archetypes.items())),
        }


def _terminal(last: Message) -> str:
    word = last.content.split(maxsplit=1)
    return word[0] if word and word[0] in ("exit", "panic") else "other"


def _distribution(lengths: Sequence[int]) -> dict[str, Any]:
    """Return quantiles (the nearest value) of ascending lengths, and how many lie in each of some equal ranges."""
    if not lengths:
        return {"example_length": {}, "length_histogram": []}
    low, high = lengths[0], lengths[-1]
    width = -(-(high - low + 1) // _BINS)
    found = Counter((length - low) // width for length in lengths)
    return {
        "example_length": {f"p{round(q * 100)}": lengths[round(q * (len(lengths) - 1))] for q in _QUANTILES},
        "length_histogram": [
            {"from": first, "to": min(first + width - 1, high), "examples": found[n]}
            for n, first in enumerate(range(low, high + 1, width))
        ],
    }
