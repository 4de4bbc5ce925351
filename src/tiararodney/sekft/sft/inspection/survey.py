"""What `--inspect` counts in a data set, and what is out of the ordinary in its sessions and in the template."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render import Message, SessionRefused, build_masked_examples, normalize_for_template
from tiararodney.sekft.render.contract.canonical import marks_of
from tiararodney.sekft.render.reply import opened_thought
from tiararodney.sekft.render.tokens import control_pattern

if TYPE_CHECKING:
    from tiararodney.sekft.render import Example, Tokenizer
    from tiararodney.sekft.trajectories import Session

_PLACES = 5  # of each kind that are named; all are counted
_COUNTS = ("sessions", "rendered", "examples", "tokens", "trained_tokens", "commands")
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


class Survey:
    """Statistics and findings over sessions, filled one session at a time.

    Args:
        max_length: what training would drop: examples with more tokens.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.lengths: list[int] = []
        self.counts, self.terminals, self.archetypes, self.splits = (Counter[str]() for _ in range(4))
        self.found: defaultdict[str, defaultdict[Any, Tally]] = defaultdict(lambda: defaultdict(Tally))
        self.leaks: dict[str, set[str]] = {"scenarios": set(), "archetypes": set()}
        self._seen: set[bytes] = set()  # digests of texts: 100 bytes a session
        self._split_of: dict[tuple[str, str], str] = {}  # the first one that a name was met in

    def observe(self, scenario_id: str, archetype: str, split: str) -> None:
        """Note in which split a kept trajectory is, also one that a filter leaves out: leaks are found by it."""
        self.splits[split or "(none)"] += 1
        for kind, name in zip(self.leaks, (scenario_id, archetype), strict=True):
            if name and self._split_of.setdefault((kind, name), split) != split:
                self.leaks[kind].add(name)

    def add(self, tok: Tokenizer, session: Session) -> list[Example]:
        """Render a session, count it, and return its examples (none where it is refused)."""
        self.counts["sessions"] += 1
        self._count_record(tok, session)
        try:
            examples = build_masked_examples(tok, session.messages)
        except SessionRefused as refused:
            where = "" if refused.turn is None else f", turn {refused.turn}"
            self.found["refusals"][refused.reason.value].add(f"{session.place}{where}: {refused.detail}")
            return []
        self.counts["rendered"] += 1
        self._count_examples(session, examples)
        return examples

    def _count_record(self, tok: Tokenizer, session: Session) -> None:
        place, messages, pattern = session.place, session.messages, control_pattern(tok)
        text = "\0".join(f"{m.role}\0{m.content}" for m in messages)
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            self.found["sessions"]["duplicates"].add(place)
        self._seen.add(digest)
        self.archetypes[session.archetype or "(none)"] += 1
        for key, n in session.unread_keys.items():
            self.found["unread_keys"][key].add(place, n)
        if masked := sum(m.role == "assistant" and not m.train for m in messages):
            self.found["sessions"]["masked_replies"].add(place, masked)
        for i, message in enumerate(messages):
            where = "commands" if message.role == "assistant" else "environment"
            for token, n in Counter(pattern.findall(message.content)).items():
                self.found["control"][token, where].add(f"{place}, turn {i}", n)

    def _count_examples(self, session: Session, examples: list[Example]) -> None:
        lengths = [len(e.input_ids) for e in examples]
        self.lengths += lengths
        self.counts["examples"] += len(examples)
        self.counts["tokens"] += sum(lengths)
        self.counts["trained_tokens"] += sum(end - start for e in examples for start, end in e.spans)
        self.counts["commands"] += sum(len(e.turns) for e in examples)
        words = normalize_for_template(session.messages)[-1].content.split(maxsplit=1)
        self.terminals[words[0] if words and words[0] in ("exit", "panic") else "other"] += 1
        if len(examples) > 1:
            self.found["sessions"]["split_sessions"].add(f"{session.place}: {len(examples)} examples")
        if over := [n for n in lengths if n > self.max_length]:
            self.found["sessions"]["over_max_length"].add(f"{session.place}: {max(over)} tokens", len(over))
        for example in examples:
            if example.crossing:
                self.found["merges"][example.crossing].add(f"{session.place}, turn {example.turns[-1]}")

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; the quantiles of lengths are the nearest values."""
        lengths, sessions = sorted(self.lengths), self.found["sessions"]
        control, merges = self.found["control"], self.found["merges"]
        return {
            **{name: self.counts[name] for name in _COUNTS},
            "trained_share": self.counts["trained_tokens"] / max(self.counts["tokens"], 1),
            "terminals": dict(self.terminals),
            "splits": dict(sorted(self.splits.items())),
            "example_length": {
                f"p{round(q * 100)}": lengths[round(q * (len(lengths) - 1))] for q in _QUANTILES if lengths
            },
            "length_histogram": _histogram(lengths),
            **{name: asdict(sessions[name]) for name in ("masked_replies", "split_sessions", "duplicates")},
            **{k: {n: asdict(t) for n, t in sorted(self.found[k].items())} for k in ("unread_keys", "refusals")},
            "over_max_length": {"max_length": self.max_length, **asdict(sessions["over_max_length"])},
            "control_token_text": [{"token": t, "where": w, **asdict(v)} for (t, w), v in sorted(control.items())],
            "border_merges": [{"token": t, **asdict(v)} for t, v in sorted(merges.items())],
            "leaks": {kind: sorted(names) for kind, names in self.leaks.items()},
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


def template_findings(tok: Tokenizer, sample: Example | None) -> list[str]:
    """Return what a user should know about template and tokenizer before training on them, a sentence each.

    Args:
        tok: the tokenizer with the template that is trained with.
        sample: an example that ends in a trained turn, None where no session could be rendered.
    """
    found: dict[str, object] = {}
    try:
        served, closed = (tok.render_text([Message("user", "$ ")], add_generation_prompt=add) for add in (True, False))
    except Exception as error:  # noqa: BLE001 - the template is a third party's program
        found[f"The template refuses a session of one user turn: {error}"] = True
    else:
        bos, thought, marks = tok.bos_token, opened_thought(served), marks_of(tok.chat_template)
        settings = ", ".join(f"{k} = {str(v).lower()}" for k, v in (marks.settings if marks else {}).items())
        fixed = marks is not None and bool(marks.clock)
        found = {
            "The template has no generation prompt: a reply follows the environment's turn at once.": served == closed,
            f"The generation prompt opens a thought ({thought.strip()}): replies are trained inside it, as it is "
            "served. Serve without a reasoning parser, which would take thoughts out of replies.": thought,
            f"Thinking is turned off in the template ({settings}), for serving too.": settings,
            f"The template writes {bos} twice.": bos and served.startswith(f"{bos}{bos}"),
            "The template prints the date: it is fixed at the day of training, for serving too.": fixed,
            "The template prints the date: a prompt that is served another day differs from the trained one.": not fixed
            and "strftime_now" in tok.chat_template,
        }
    found["The tokenizer has no special tokens: no end of turn can be learnt."] = not tok.control_tokens
    if sample is not None and (eos := tok.eos_token) is not None:
        end = sample.input_ids[-1]
        found[f"A turn ends in {tok.decode([end])!r}, the EOS token is {eos!r}: stop at both."] = (
            end != tok.control_tokens.get(eos)
        )
    return [text for text, holds in found.items() if holds]
