"""The record of one evaluated session, and the file that it is appended to as soon as it finishes."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Generation:
    """How one assistant turn came about, enough to get the same reply again with other tools.

    Args:
        turn: index of the assistant message; its prompt is rendered from ``messages[:turn]``.
        prompt_sha256: hash of the prompt's token ids (see `prompt_hash`), empty where the prompt is not ours to see.
        prompt_tokens: length of the prompt, in tokens; 0 where unknown.
        reply_ids: the sampled token ids, with the stop token where there was one; empty where unknown.
        stop: ``end`` (a stop token), ``length`` (`max_new_tokens` reached), ``context`` (the prompt no longer fits).
    """

    turn: int
    prompt_sha256: str = ""
    prompt_tokens: int = 0
    reply_ids: tuple[int, ...] = ()
    stop: str = ""


@dataclass(frozen=True)
class Episode:
    """One model in one fresh world.

    Args:
        model: name of the contestant in this run.
        scenario_id: the scenario played.
        archetype: the scenario's archetype.
        terminal: the ending that the scenario calls for, ``exit`` or ``panic``.
        outcome: the recorder's label.
        verified: the checker passed.
        keep: right terminal, verified and clean.
        ended: how the session ended: ``exit``, ``panic``, or why it was stopped (``turn_limit``, ``died`` ...).
        commands: number of turns the model took.
        clean: every turn was a command.
        prose_turns: number of turns that were prose.
        runtime: the runtime of the world.
        infrastructure: the reason of a fault of ours, empty where there was none.
        finished: when it ended, UTC.
        checker: what the checker printed.
        sample: which repeat of the scenario this is, from 0.
        checks: what was checked of the world's final state, and whether it passed.
        seconds: how long the session took; 0 where unknown.
        messages: the session, ``{role, content}``.
        generations: one for every assistant message.
        schema_version: of this record.
    """

    model: str
    scenario_id: str
    archetype: str
    terminal: str
    outcome: str
    verified: bool
    keep: bool
    ended: str | None
    commands: int
    clean: bool
    prose_turns: int
    runtime: str
    infrastructure: str = ""
    finished: str = ""
    checker: str = ""
    sample: int = 0
    checks: Mapping[str, bool] = field(default_factory=dict)
    seconds: float = 0.0
    messages: tuple[Mapping[str, str], ...] = ()
    generations: tuple[Generation, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells the session from the run's others: model, scenario and sample."""
        return self.model, self.scenario_id, self.sample

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a record; keys that this version does not know are left out.

        Raises:
            KeyError, TypeError, ValueError: the record has another shape.
        """
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {data['schema_version']!r}, expected {SCHEMA_VERSION}")
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        values["messages"] = tuple(dict(m) for m in data["messages"])
        values["generations"] = tuple(
            Generation(**(g | {"reply_ids": tuple(g["reply_ids"])})) for g in data["generations"]
        )
        return cls(**values)


def prompt_hash(ids: Iterable[int]) -> str:
    """Return the SHA-256 of token ids written in decimal with commas between, as hexadecimal digits."""
    return sha256(",".join(map(str, ids)).encode()).hexdigest()


def read_episodes(file: Path) -> list[Episode]:
    """Read the last episode of every session of a run: one after an infrastructure error supersedes it.

    Returns:
        In the order of models, scenarios and samples.

    Raises:
        UsageError: the file cannot be read, or a line is no episode.
    """
    try:
        episodes = _parsed(file.read_bytes(), file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}). Expected a folder of sekft-eval --out.") from None
    last = {e.key: e for e in episodes}
    return [last[key] for key in sorted(last)]


def _parsed(data: bytes, file: Path) -> list[Episode]:
    out = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            out.append(Episode.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{file}:{number}: no episode that this version can read ({error!r}). "
                "Give another --out, or remove the file."
            ) from None
    return out


class EpisodeLog:
    """An append-only ``*.jsonl`` in which every whole line is on the disk before the next episode is counted.

    Args:
        path: the file; a torn last line, which a killed run may leave, is cut off when the log is opened.

    Raises:
        UsageError: a line other than the last is no episode, or another run has the file open.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            self.episodes = _parsed(data[:whole], path)
            self._file.truncate(whole)
        except BlockingIOError:
            self._file.close()
            raise UsageError(f"{path}: another run is writing it. Wait for it, or give another --out.") from None
        except UsageError:
            self._file.close()
            raise

    def append(self, episode: Episode) -> None:
        """Write one episode and wait until it is on the disk."""
        line = json.dumps(episode.to_json(), ensure_ascii=False, separators=(",", ":"))
        self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.episodes.append(episode)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
