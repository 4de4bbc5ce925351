"""What `--inspect` finds in a data set: how its sessions render, what is trained, and what looks wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render import (
    Example,
    Message,
    SessionRefused,
    Tokenizer,
    build_masked_examples,
    normalize_for_template,
)
from tiararodney.sekft.render.contract.canonical import template_clock, template_settings
from tiararodney.sekft.render.control import control_pattern
from tiararodney.sekft.render.thoughts import opened_thought
from tiararodney.sekft.sft.inspection.ledger import Ledger

if TYPE_CHECKING:
    from tiararodney.sekft.trajectories import Session

_NAMED = 5
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
        if len(self.places) < _NAMED:
            self.places.append(place)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {"count": self.count, "places": self.places}


@dataclass
class Survey:
    """Statistics and findings over sessions, filled one session at a time.

    Args:
        max_length: what training would drop: examples with more tokens.
    """

    max_length: int
    sessions: int = 0
    rendered: int = 0
    examples: int = 0
    tokens: int = 0
    trained: int = 0
    commands: int = 0
    terminals: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    split: Tally = field(default_factory=Tally)
    too_long: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    refusals: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    control: defaultdict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    merges: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    archetypes: Counter[str] = field(default_factory=Counter)
    ledger: Ledger = field(default_factory=Ledger)

    def add(self, tok: Tokenizer, session: Session) -> list[Example]:
        """Render a session, count it, and return its examples (none where it is refused)."""
        self.sessions += 1
        place = f"{session.id or '(no id)'} ({session.source})"
        self._whence(session, place)
        self._control_text(tok, session, place)
        try:
            examples = build_masked_examples(tok, session.messages)
        except SessionRefused as refused:
            where = "" if refused.turn is None else f", turn {refused.turn}"
            self.refusals[refused.reason.value].add(f"{place}{where}: {refused.detail}")
            return []
        self.rendered += 1
        self._count(session, examples, place)
        return examples

    def _whence(self, session: Session, place: str) -> None:
        text = "\0".join(f"{m.role}\0{m.content}" for m in session.messages)
        if not self.ledger.is_new(text):
            self.duplicates.add(place)
        self.archetypes[session.archetype or "(none told)"] += 1
        if session.scenario_id:
            self.ledger.note("scenarios", session.scenario_id, session.split)
        if session.archetype:
            self.ledger.note("archetypes", session.archetype, session.split)

    def _control_text(self, tok: Tokenizer, session: Session, place: str) -> None:
        pattern = control_pattern(tok)
        for i, message in enumerate(session.messages):
            for token, n in Counter(pattern.findall(message.content)).items():
                where = "commands" if message.role == "assistant" else "environment"
                self.control[token, where].add(f"{place}, turn {i}", n)

    def _count(self, session: Session, examples: list[Example], place: str) -> None:
        self.examples += len(examples)
        lengths = [len(e.input_ids) for e in examples]
        self.lengths.update(lengths)
        self.tokens += sum(lengths)
        self.trained += sum(end - start for e in examples for start, end in e.spans)
        self.commands += sum(len(e.turns) for e in examples)
        self.terminals[_terminal(normalize_for_template(session.messages)[-1])] += 1
        if len(examples) > 1:
            self.split.add(f"{place}: {len(examples)} examples")
        over = [n for n in lengths if n > self.max_length]
        if over:
            self.too_long.add(f"{place}: {max(over)} tokens", len(over))
        for example in examples:
            if example.crossing:
                self.merges[example.crossing].add(f"{place}, turn {example.turns[-1]}")

    def leaks(self) -> dict[str, list[str]]:
        """Return scenarios and archetypes that stand in more than one split."""
        return {kind: self.ledger.leaks(kind) for kind in ("scenarios", "archetypes")}

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
            "example_length": quantiles(self.lengths),
            "length_histogram": histogram(self.lengths),
            "split_sessions": self.split.to_json(),
            "over_max_length": {"max_length": self.max_length, **self.too_long.to_json()},
            "refusals": {k: v.to_json() for k, v in sorted(self.refusals.items())},
            "control_token_text": [
                {"token": t, "where": w, **v.to_json()} for (t, w), v in sorted(self.control.items())
            ],
            "border_merges": [{"token": t, **v.to_json()} for t, v in sorted(self.merges.items())],
            "duplicates": self.duplicates.to_json(),
            "leaks": self.leaks(),
            "archetypes": dict(sorted(self.archetypes.items())),
        }


def quantiles(values: Counter[int]) -> dict[str, int]:
    """Return the smallest, the largest and quantiles between (the nearest value, no interpolation).

    Args:
        values: how often each value occurs.
    """
    if not values:
        return {}
    ordered = sorted(values)
    upto = list(accumulate(values[v] for v in ordered))
    at = {q: bisect_right(upto, round(q * (upto[-1] - 1))) for q in _QUANTILES}
    return {f"p{round(q * 100)}": ordered[i] for q, i in at.items()}


def histogram(values: Counter[int]) -> list[dict[str, int]]:
    """Return equal ranges of the values, each with its first, its last and how many examples lie there."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // _BINS))
    bins = [{"from": start, "to": min(start + width - 1, high), "examples": 0} for start in range(low, high + 1, width)]
    for value, n in values.items():
        bins[(value - low) // width]["examples"] += n
    return bins


def contract_findings(tok: Tokenizer, sample: Example | None) -> list[str]:
    """Return what a user should know about a model's template and tokenizer."""
    probe = [Message("user", "$ ")]
    try:
        served = tok.render_text(probe, add_generation_prompt=True)
        closed = tok.render_text(probe, add_generation_prompt=False)
    except Exception as error:  # noqa: BLE001 - the template is a program of somebody else's
        return [f"The template refuses a session of one user turn: {error}", *_token_findings(tok, sample)]
    bos, thought = tok.bos_token, opened_thought(served)
    settings = ", ".join(f"{k} = {str(v).lower()}" for k, v in template_settings(tok.chat_template).items())
    found = {
        "The template has no generation prompt: a reply follows the environment's turn at once.": served == closed,
        f"The generation prompt opens a thought ({thought.strip()}): replies are trained inside it, as it is served. "
        "Serve without a parser that takes thoughts out of replies.": bool(thought),
        f"The template's thinking is off for good ({settings}): commands come without thoughts.": bool(settings),
        f"The template writes {bos} twice.": bool(bos) and served.startswith(f"{bos}{bos}"),
    }
    return [*(text for text, true in found.items() if true), *_date_findings(tok), *_token_findings(tok, sample)]


def _date_findings(tok: Tokenizer) -> list[str]:
    if template_clock(tok.chat_template):
        return ["The template prints the date: it is stopped at the day of training, for serving too."]
    if "strftime_now" in tok.chat_template:
        return ["The template prints the date: a prompt that is served another day differs from the trained one."]
    return []


def _token_findings(tok: Tokenizer, sample: Example | None) -> list[str]:
    out = []
    if not tok.control_tokens:
        out.append("The tokenizer has no special tokens: no end of turn can be learnt.")
    if sample is not None and tok.eos_token is not None:
        end = sample.input_ids[-1]
        if end != tok.control_tokens.get(tok.eos_token):
            out.append(
                f"A turn ends in {tok.decode([end])!r}, not in the end of sequence {tok.eos_token!r}: stop at both."
            )
    return out


def _terminal(last: Message) -> str:
    word = last.content.split(maxsplit=1)
    return word[0] if word and word[0] in ("exit", "panic") else "other"
