"""`cycle`: an adapter learns from its own sessions, round by round; docs/resident.md says how and what is written.

The sessions that succeed are trained on (rejection fine-tuning), and so are some of those that went wrong, continued by
the reference operator, whose turns alone have labels (DAgger, Ross et al. 2011).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path  # noqa: TC003 - the settings' types are read at run time
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import provenance
from tiararodney.sekft.console import aligned
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.eval.episodes import Episode, read_episodes
from tiararodney.sekft.eval.outcomes import compare
from tiararodney.sekft.eval.report import p_text, rate_text
from tiararodney.sekft.eval.run import claim
from tiararodney.sekft.eval.statistics import group
from tiararodney.sekft.flags import Common
from tiararodney.sekft.folders import check_folder, write_whole
from tiararodney.sekft.resident.runs import check_training, evaluate_all, train_once
from tiararodney.sekft.settings import read_settings, setting, settings_of, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)

SCHEMA_VERSION = 3  # of report.json
KEPT, CORRECTED = "kept.jsonl", "corrected.jsonl"
CONCURRENCY = 4  # sessions that are corrected at a time
ABOUT = (
    "Let an adapter learn from its own sessions. Flags that are not listed here are those of a training (train --help)."
)


@dataclass(frozen=True)
class CycleConfig:
    """What a cycle does; the training's flags stand beside it."""

    data: tuple[Path, ...] = setting("demonstrations: trajectories that every round trains on", metavar="DIR|FILE")
    scenarios: Path = setting("worlds to act in", metavar="DIR|FILE")
    holdout: Path = setting("worlds to evaluate in", metavar="DIR|FILE")
    out: Path = setting("folder of everything; a cycle that was cut off goes on there", metavar="DIR")
    rounds: int = setting("rounds after the demonstrations alone", default=1, above=0)
    samples: int = setting("sessions in each world and round", default=4, above=0)
    temperature: float = setting("sampling temperature of the acting", default=0.7, above=0)
    act_n: int | None = setting("number of worlds to act in (default: all)", default=None, above=0)
    holdout_n: int | None = setting("number of holdout worlds (default: all)", default=None, above=0)
    runtime: str = setting(
        "where worlds run: auto, docker or bwrap", default="auto", choices=("auto", "docker", "bwrap")
    )
    max_turns: int | None = setting("most commands per session (default: by scenario)", default=None, above=0)
    max_new_tokens: int = setting("most tokens per reply", default=48, above=0)
    correct_per_world: int = setting(
        "most sessions of one world and round that the reference operator continues where they went wrong; 0 for none",
        default=1,
        at_least=0,
    )
    keep_per_world: int = setting("most kept sessions of one world in a round, the shortest first", default=1, above=0)
    seed: int = setting("random seed of the sampling and the training", default=0, at_least=0)


def run_cycle(resident: Resident, args: Sequence[str]) -> int:
    """Carry out a cycle, or what is left of one; `args` are flags of `CycleConfig` and of a training.

    Raises:
        UsageError: a flag cannot be used, holdout and training worlds overlap, or the folder is another cycle's.
    """
    own, training = split_flags(args)
    config = read_settings(own, (CycleConfig, Common), "cycle", ABOUT).of(CycleConfig)
    check_folder(config.out, f"--out {config.out}")
    training = [*training, f"--seed={config.seed}"]
    demonstrations = [f"--data={path}" for path in config.data]
    check_training(resident, [*demonstrations, *training], "cycle")
    acted = worlds.select(config.scenarios, config.act_n, None)
    held = worlds.select(config.holdout, config.holdout_n, None)
    if shared := sorted(acted.digests.keys() & held.digests.keys()):
        raise UsageError(
            f"--holdout {config.holdout}: {len(shared)} of its worlds are acted in too, such as {shared[0]}. "
            "Give worlds of another split (posix-sdc generate --split holdout)."
        )
    record = {k: v for k, v in to_json(config).items() if k != "rounds"}
    claim(config.out / "cycle.json", {"cycle": record | {"training": training}})
    playing = EvalConfig(
        config.holdout, config.out / "holdout", n=config.holdout_n, runtime=config.runtime,
        max_turns=config.max_turns, max_new_tokens=config.max_new_tokens, **resident.base.settings(),
    )  # fmt: skip
    adapters: dict[str, Path] = {}
    rounds: list[dict[str, Any]] = []
    for number in range(config.rounds + 1):
        name = f"round-{number}"
        folder = config.out / name
        log.info("cycle: round %d of %d", number, config.rounds)
        data, found = demonstrations, {}
        if number:
            acting = replace(
                playing, scenarios=config.scenarios, out=folder / "acting", n=config.act_n, no_base=True,
                baselines=False, allow_seen=True, repeats=config.samples, temperature=config.temperature,
                seed=config.seed + number,
            )  # fmt: skip
            evaluate_all(resident, acting, {"actor": adapters[f"round-{number - 1}"]})
            found = learn(resident, config, number, acted, folder)
            made = [config.out / f"round-{n}" / name for n in range(1, number + 1) for name in (KEPT, CORRECTED)]
            data = [*demonstrations, *(f"--data={file}" for file in made if any(r["keep"] for r in _read_lines(file)))]
        adapters[name] = folder / "adapter"
        train_once(resident, [*data, *training], adapters[name])
        report = evaluate_all(resident, playing, adapters)
        rounds.append({"round": number} | found)
        record = write_report(config, rounds, report)
    print("\n".join(table(record)))
    print(f"\nreport: {config.out / 'report.json'}, {config.out / 'holdout' / 'report.html'}")
    return 0


def split_flags(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell a cycle's flags from those of its trainings."""
    mine = {flag for record in (CycleConfig, Common) for item in settings_of(record) for flag in item.flags}
    own: list[str] = []
    training: list[str] = []
    target = training
    for word in args:
        if word.startswith("-"):
            target = own if word.partition("=")[0].replace("_", "-") in {*mine, "--help", "-h"} else training
        target.append(word)
    return own, training


def learn(
    resident: Resident, config: CycleConfig, number: int, acted: worlds.Selection, folder: Path
) -> dict[str, Any]:
    """Write what comes of a round's acting, and return the counts of it.

    A session is kept, corrected, or rejected without; those that could not be corrected are counted by outcome.
    """
    versions = {scenario.id: scenario.version for scenario in acted.scenarios}
    episodes = read_episodes(folder / "acting" / "episodes.jsonl")
    kept = choose(episodes, config.keep_per_world)
    _write_lines(folder / KEPT, [trajectory(e, number, versions[e.scenario_id]) for e in kept])
    if not (folder / CORRECTED).exists():
        wrong, name = failed(episodes, config.correct_per_world), f"round-{number}-corrected"
        records = worlds.correct(wrong, acted, name, config.runtime, CONCURRENCY, resident.should_stop)
        source = {"source": "corrected", "round": number}
        _write_lines(folder / CORRECTED, [record | {"meta": record["meta"] | source} for record in records])
    corrected = _read_lines(folder / CORRECTED)
    pairs = list(preferences(episodes, corrected))
    _write_lines(folder / "preferences.jsonl", pairs)
    put_right = [record for record in corrected if record["keep"]]
    counts = {
        "sessions": sum(not e.infrastructure for e in episodes),
        "succeeded": sum(e.keep for e in episodes),
        "kept": len(kept),
        "corrected": len(put_right),
        "rejected": sum(not (e.infrastructure or e.keep) for e in episodes) - len(put_right),
        "went_wrong_by": dict(Counter(r["meta"]["astray"] for r in put_right)),
        "not_corrected": dict(Counter(r["outcome"] for r in corrected if not r["keep"])),
        "preference_pairs": len(pairs),
    }
    log.info("cycle: sessions=%(sessions)d succeeded=%(succeeded)d kept=%(kept)d corrected=%(corrected)d", counts)
    return counts


def choose(episodes: Sequence[Episode], most: int) -> list[Episode]:
    """Return the sessions to train on: verified, clean and rightly ended; at most so many of a world, the shortest."""
    return _of_each_world([e for e in episodes if e.keep], most, lambda e: (e.commands, e.sample))


def failed(episodes: Sequence[Episode], most: int) -> list[Episode]:
    """Return the sessions to correct: at most so many of a world that went wrong, the first ones."""
    return _of_each_world([e for e in episodes if not e.keep and not e.infrastructure], most, lambda e: (e.sample,))


def _of_each_world(
    episodes: Sequence[Episode], most: int, order: Callable[[Episode], tuple[int, ...]]
) -> list[Episode]:
    out: list[Episode] = []
    for own in group([e.scenario_id for e in episodes], episodes).values():
        distinct = {tuple(m["content"] for m in e.messages): e for e in reversed(own)}  # the same turns count once
        out += sorted(distinct.values(), key=order)[:most]
    return out


def trajectory(episode: Episode, number: int, version: str) -> dict[str, Any]:
    """Return an episode of a round as a trajectory's JSON values, which a training reads; `version` is its world's."""
    operator = f"round-{number}"
    same = ("scenario_id", "archetype", "terminal", "verified", "outcome", "keep")
    return {name: getattr(episode, name) for name in same} | {
        "id": f"{episode.scenario_id}/{operator}/{episode.sample}",
        "version": version,
        "split": "train",
        "operator_model": operator,
        "steps": episode.commands,
        "meta": {name: getattr(episode, name) for name in ("clean", "ended", "runtime")}
        | {"source": "kept", "round": number},
        "turns": [dict(message) for message in episode.messages],
    }


def preferences(episodes: Sequence[Episode], corrected: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a round's preference pairs, of its episodes and its corrected trajectories.

    Every kept session stands against every rejected one of its world, every corrected one against the session that it
    continues otherwise. The prompt is what both sessions have in common up to the first reply in which they differ.
    """
    played = [e for e in episodes if not e.infrastructure]
    both = [(a, b) for a, b in product(played, played) if a.scenario_id == b.scenario_id]
    pairs = [(good.messages, bad) for good, bad in both if good.keep and not bad.keep]
    wrong = {(e.scenario_id, e.sample): e for e in played}
    pairs += [(r["turns"], wrong[r["scenario_id"], r["meta"]["sample"]]) for r in corrected if r["keep"]]
    for turns, bad in pairs:
        chosen, rejected = (
            [{"role": m["role"], "content": m["content"]} for m in messages] for messages in (turns, bad.messages)
        )
        at = next((i for i, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
        if at is not None and chosen[at]["role"] == rejected[at]["role"] == "assistant":  # else it is the world's doing
            parts = {"prompt": chosen[:at], "chosen": chosen[at:], "rejected": rejected[at:]}
            yield parts | {"scenario_id": bad.scenario_id}


def _write_lines(file: Path, values: Sequence[Mapping[str, Any]]) -> None:
    write_whole(file, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def _read_lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")  # a reply may hold U+2028
    return [json.loads(line) for line in lines if line]


def write_report(config: CycleConfig, rounds: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> dict[str, Any]:
    """Write and return ``report.json``: each round's rates in the holdout worlds, paired with base and round before."""
    episodes = read_episodes(config.out / "holdout" / "episodes.jsonl")
    played = group([e.model for e in episodes], episodes)
    models = {m["name"]: m for m in report["models"]}
    out = []
    for entry in rounds:
        name, before = f"round-{entry['round']}", f"round-{entry['round'] - 1}"
        pairs = {
            key: compare(played[other], played[name])["success"]
            for key, other in (("base", "base"), ("round_before", before))
            if other in played
        }
        paired = {key: {"n": pair.n} | asdict(pair) for key, pair in pairs.items()}
        out.append(dict(entry) | {"rates": models[name]["rates"], "paired_with": paired})
    record = {
        "schema_version": SCHEMA_VERSION,
        "written": provenance.now(),
        "config": to_json(config),
        "base": models["base"]["rates"],
        "rounds": out,
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
    }
    write_whole(config.out / "report.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return record


def table(record: Mapping[str, Any]) -> list[str]:
    """Return a report's rounds as aligned lines."""
    counted = ("sessions", "succeeded", "kept", "corrected", "rejected")
    rows = [["", *counted, "pairs", "holdout success", "verified", "against base", "p", "against round before", "p"]]
    for entry in [{"name": "base", "rates": record["base"], "paired_with": {}}, *record["rounds"]]:
        pairs = [entry["paired_with"].get(other) for other in ("base", "round_before")]
        changes = [[f"{p['difference'] or 0:+.2f}", p_text(p["p_value"])] if p else ["", ""] for p in pairs]
        rows.append([
            entry.get("name") or f"round-{entry['round']}",
            *(str(entry.get(k, "")) for k in (*counted, "preference_pairs")),
            *(rate_text(entry["rates"][name]) for name in ("success", "verified")),
            *changes[0], *changes[1],
        ])  # fmt: skip
    return aligned(rows)
