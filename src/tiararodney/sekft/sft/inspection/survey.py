"""What `--inspect` counts in a data set: how its sessions render, what is trained, and what looks wrong."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
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

if TYPE_CHECKING:
    from tiararodney.sekft.trajectories import Session

_PLACES = 5  # of each kind that are named; all are counted
_COUNTS = ("sessions", "rendered", "examples", "tokens", "trained_tokens", "commands")
_FOUND = ("masked_replies", "split_sessions", "duplicates")
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_BINS = 24


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


Tallies = defaultdict[Any, Tally]


class Survey:
    """Statistics and findings over sessions, filled one session at a time.

    Args:
        max_length: what training would drop: examples with more tokens.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.lengths: list[int] = []
        self.counts, self.terminals, self.archetypes, self.splits = (Counter[str]() for _ in range(4))
        self.found: Tallies = defaultdict(Tally)
        self.refusals: Tallies = defaultdict(Tally)
        self.control: Tallies = defaultdict(Tally)
        self.merges: Tallies = defaultdict(Tally)
        self.unread: Tallies = defaultdict(Tally)
        self.leaks: defaultdict[str, set[str]] = defaultdict(set)
        self._seen: set[bytes] = set()  # digests of texts: 100 bytes a session
        self._split_of: dict[tuple[str, str], str] = {}  # the first one that a name was met in

    def observe(self, scenario_id: str, archetype: str, split: str) -> None:
        """Note in which split a kept trajectory is, also one that a filter leaves out: leaks are found by it."""
        self.splits[split or "(none)"] += 1
        for kind, name in (("scenarios", scenario_id), ("archetypes", archetype)):
            if name and self._split_of.setdefault((kind, name), split) != split:
                self.leaks[kind].add(name)

    def add(self, tok: Tokenizer, session: Session) -> list[Example]:
        """Render a session, count it, and return its examples (none where it is refused)."""
        self.counts["sessions"] += 1
        self._count_record(session)
        self._count_control_text(tok, session)
        try:
            examples = build_masked_examples(tok, session.messages)
        except SessionRefused as refused:
            where = "" if refused.turn is None else f", turn {refused.turn}"
            self.refusals[refused.reason.value].add(f"{session.place}{where}: {refused.detail}")
            return []
        self.counts["rendered"] += 1
        self._count_examples(session, examples)
        return examples

    def _count_record(self, session: Session) -> None:
        text = "\0".join(f"{m.role}\0{m.content}" for m in session.messages)
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            self.found["duplicates"].add(session.place)
        self._seen.add(digest)
        self.archetypes[session.archetype or "(none)"] += 1
        for key, n in session.unread_keys.items():
            self.unread[key].add(session.place, n)
        masked = sum(m.role == "assistant" and not m.train for m in session.messages)
        if masked:
            self.found["masked_replies"].add(session.place, masked)

    def _count_control_text(self, tok: Tokenizer, session: Session) -> None:
        pattern = control_pattern(tok)
        for i, message in enumerate(session.messages):
            for token, n in Counter(pattern.findall(message.content)).items():
                where = "commands" if message.role == "assistant" else "environment"
                self.control[token, where].add(f"{session.place}, turn {i}", n)

    def _count_examples(self, session: Session, examples: list[Example]) -> None:
        lengths = [len(e.input_ids) for e in examples]
        self.lengths += lengths
        self.counts["examples"] += len(examples)
        self.counts["tokens"] += sum(lengths)
        self.counts["trained_tokens"] += sum(end - start for e in examples for start, end in e.spans)
        self.counts["commands"] += sum(len(e.turns) for e in examples)
        self.terminals[_terminal(normalize_for_template(session.messages)[-1])] += 1
        if len(examples) > 1:
            self.found["split_sessions"].add(f"{session.place}: {len(examples)} examples")
        over = [n for n in lengths if n > self.max_length]
        if over:
            self.found["over_max_length"].add(f"{session.place}: {max(over)} tokens", len(over))
        for example in examples:
            if example.crossing:
                self.merges[example.crossing].add(f"{session.place}, turn {example.turns[-1]}")

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; the quantiles of lengths are the nearest values."""
        lengths = sorted(self.lengths)
        return {
            **{name: self.counts[name] for name in _COUNTS},
            "trained_share": self.counts["trained_tokens"] / max(self.counts["tokens"], 1),
            "terminals": dict(self.terminals),
            "splits": dict(sorted(self.splits.items())),
            "example_length": {
                f"p{round(q * 100)}": lengths[round(q * (len(lengths) - 1))] for q in _QUANTILES if lengths
            },
            "length_histogram": _histogram(lengths),
            **{name: asdict(self.found[name]) for name in _FOUND},
            "unread_keys": {k: asdict(v) for k, v in sorted(self.unread.items())},
            "over_max_length": {"max_length": self.max_length, **asdict(self.found["over_max_length"])},
            "refusals": {k: asdict(v) for k, v in sorted(self.refusals.items())},
            "control_token_text": [{"token": t, "where": w, **asdict(v)} for (t, w), v in sorted(self.control.items())],
            "border_merges": [{"token": t, **asdict(v)} for t, v in sorted(self.merges.items())],
            "leaks": {kind: sorted(self.leaks[kind]) for kind in ("scenarios", "archetypes")},
            "archetypes": dict(sorted(self.archetypes.items())),
        }


def _histogram(lengths: list[int]) -> list[dict[str, int]]:
    """How many of ascending lengths lie in each of some equally wide ranges."""
    if not lengths:
        return []
    low, high = lengths[0], lengths[-1]
    width = -(-(high - low + 1) // _BINS)
    found = Counter((length - low) // width for length in lengths)
    starts = range(low, high + 1, width)
    return [{"from": a, "to": min(a + width - 1, high), "examples": found[n]} for n, a in enumerate(starts)]


def _terminal(last: Message) -> str:
    word = last.content.split(maxsplit=1)
    return word[0] if word and word[0] in ("exit", "panic") else "other"
