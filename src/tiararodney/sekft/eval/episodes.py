"""The record of one evaluated session, and the file that it is appended to as soon as it finishes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from tiararodney.sekft.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Generation:
    """How one assistant turn came about, enough to get the same reply again with other tools."""

    turn: int  # index of the assistant message; its prompt is rendered from `messages[:turn]`
    prompt_sha256: str = ""  # of the prompt's token ids, see `prompt_hash`; empty where the prompt is not ours to see
    prompt_tokens: int = 0  # 0 where unknown
    reply_ids: tuple[int, ...] = ()  # sampled token ids without the stop token; empty where unknown
    stop: str = ""  # "end" (a stop token), "length" (`max_new_tokens` reached), "context" (the prompt no longer fits)


@dataclass(frozen=True)
class Episode:
    """One model in one fresh world."""

    model: str  # name of the contestant in this run
    scenario_id: str
    archetype: str
    terminal: str  # the ending that the scenario calls for, "exit" or "panic"
    outcome: str  # the recorder's label
    verified: bool  # the checker passed
    keep: bool  # right terminal, verified and clean
    ended: str | None  # "exit", "panic", or why the session was stopped ("turn_limit", "died" ...)
    commands: int  # turns that the model took
    clean: bool  # every turn was a command
    prose_turns: int
    runtime: str
    infrastructure: str = ""  # the reason of a fault of ours, empty where there was none
    finished: str = ""  # UTC
    checker: str = ""  # what the checker printed
    sample: int = 0  # which repeat of the scenario
    checks: Mapping[str, bool] = field(default_factory=dict)  # of the world's final state: whether each passed
    seconds: float = 0.0  # 0 where unknown
    messages: tuple[Mapping[str, str], ...] = ()  # {role, content}
    generations: tuple[Generation, ...] = ()  # one for every assistant message
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells the session from the run's others: model, scenario and sample."""
        return self.model, self.scenario_id, self.sample

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


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UsageError: it cannot be read or holds something else than what is `expected`.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}). Expected {expected}.") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f"{file}: found no JSON object, expected {expected}.")
    return value


def read_episodes(file: Path) -> list[Episode]:
    """Read the last episode of every session of a run: one after an infrastructure error supersedes it.

    Returns:
        In the order of models, scenarios and samples.

    Raises:
        UsageError: the file cannot be read, or a line is no episode.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}). Expected a folder of sekft-eval --out.") from None
    last = {e.key: e for e in _parsed(data, file)}
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
        path: the file; a torn last line, which a killed run may leave, is cut off here.

    Raises:
        UsageError: a line other than the last is no episode.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        self.path, self.episodes = path, _parsed(data[:whole], path)
        os.truncate(path, whole)

    def append(self, episode: Episode) -> None:
        """Write one episode and wait until it is on the disk.

        Raises:
            RunFailed: the disk refuses it.
        """
        line = json.dumps(asdict(episode), ensure_ascii=False, separators=(",", ":"))
        try:
            with self.path.open("ab") as file:
                file.write(line.encode("utf-8", "surrogatepass") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            remedy = "Free some space; the same command resumes."
            raise RunFailed(f"{self.path}: cannot be written ({error.strerror}). {remedy}") from error
        self.episodes.append(episode)
