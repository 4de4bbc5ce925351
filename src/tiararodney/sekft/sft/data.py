"""Trajectories to examples: what is trained, and every session that is not, counted and named."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import Example, weigh_terminal
from tiararodney.sekft.sft.inspection.survey import Survey
from tiararodney.sekft.trajectories import Sessions

if TYPE_CHECKING:
    from tiararodney.sekft.render import Tokenizer
    from tiararodney.sekft.sft.config import TrainConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """What a run learns from and is validated on.

    Attributes:
        training: Examples to train on.
        validation: Examples held back, of other scenarios than those trained on.
        counts: What was read, kept, refused (by reason) and left out for its length.
        digest: SHA-256 of all examples in order; a resumed run, and every process of one, must find the same.
    """

    training: list[Example]
    validation: list[Example]
    counts: dict[str, Any]
    digest: str


def read_examples(config: TrainConfig, tokenizer: Tokenizer, positions: int | None = None) -> Examples:
    """Read, render and divide what a run is given.

    Args:
        config: Names the data, `max_length` and the share to validate on.
        tokenizer: The base's.
        positions: How many tokens the base was made for, None where that is unknown; longer examples are left out,
            since it could not be served with them either.

    Raises:
        UsageError: The data cannot be read, or nothing is left to train on.
    """
    limit, why = config.max_length, "--max-length"
    if positions is not None and positions < limit:
        limit, why = positions, f"the {positions} positions of the base"
    only = (config.data_version, config.data_split, config.verified, config.quarantined)
    sessions = Sessions(config.data, config.hub, *only)
    rendered: list[tuple[str, Example]] = []
    survey = Survey(limit)
    scenarios: set[str] = set()
    archetypes: set[str] = set()
    tokens: dict[int, int] = {}  # one object for each id in all examples: a third of the memory
    for session in sessions:
        scenario = session.scenario_id or session.id
        for example in survey.add(tokenizer, session):
            if len(example.input_ids) > limit:
                continue
            ids, labels = ([tokens.setdefault(t, t) for t in part] for part in (example.input_ids, example.labels))
            shared = weigh_terminal(replace(example, input_ids=ids, labels=labels), config.terminal_weight)
            rendered.append((session.archetype if config.validation_by == "archetype" else scenario, shared))
            scenarios.add(scenario)
            archetypes.add(session.archetype)
    refusals, long = survey.found["refusals"], survey.found["sessions"]["over_max_length"]
    for reason, tally in refusals.items():
        for place in tally.places:
            log.warning("refused (%s): %s", reason, place)
    for place in long.places:
        log.warning("%s, over %s; left out whole", place, why)
    refused = {reason: tally.count for reason, tally in refusals.items()}
    held_back = _held_back({group for group, _ in rendered}, config) if rendered else frozenset()
    training = [example for group, example in rendered if group not in held_back]
    validation = [example for group, example in rendered if group in held_back]
    digest = hashlib.sha256()
    for group, example in rendered:
        digest.update(repr((group in held_back, example.input_ids, example.labels, example.weights)).encode())
    counts = {
        "read": sessions.read,
        "kept": sessions.kept,
        "dropped": dict(sessions.dropped),
        "refused": refused,
        "over_max_length": long.count,
        "training_examples": len(training),
        "validation_examples": len(validation),
        "held_back": sorted(held_back),
        "scenario_ids": sorted(scenarios),
        "archetypes": sorted(filter(None, archetypes)),
        "training_tokens": sum(len(example.input_ids) for example in training),
        "trained_tokens": sum(end - start for example in training for start, end in example.spans),
    }
    if not training:
        raise UsageError(
            f"found no example to train on: {sessions.kept} kept sessions, refused {refused or 'none'}, "
            f"{long.count} over {why} ({limit} tokens), {len(validation)} held back "
            "to validate. Look at them with --inspect."
        )
    log.info(
        "%d of %d trajectories kept (%s), %d refused, %d examples over %s (%d tokens)",
        sessions.kept, sessions.read, sessions.drops(), sum(refused.values()), long.count, why, limit,
    )  # fmt: skip
    return Examples(training, validation, counts, digest.hexdigest())


def _held_back(groups: set[str], config: TrainConfig) -> frozenset[str]:
    """Choose the scenarios (or archetypes) to validate on: drawn by the seed, at least one, never all."""
    if not config.validation_fraction:
        return frozenset()
    if len(groups) < 2:  # noqa: PLR2004 - one to learn from, one to validate on
        kind = config.validation_by
        raise UsageError(
            f"--validation-fraction: found {len(groups)} {kind} in the data, expected at least 2: sessions of one "
            f"{kind} are held back whole. Give more data, or --validation-by scenario."
        )
    drawn = sorted(groups, key=lambda group: hashlib.sha256(f"{config.seed}/{group}".encode()).digest())
    return frozenset(drawn[: min(max(1, round(config.validation_fraction * len(drawn))), len(drawn) - 1)])
