"""`cycle`: an adapter learns from its own sessions, round by round.

Round 0 trains on the demonstrations alone. In each round after it the newest adapter acts in the training worlds,
several times in each and with a temperature. The sessions that are verified and clean are kept (rejection fine-tuning);
of those that went wrong some are corrected: the reference operator continues them from the state that they are in, and
only its turns are trained (DAgger, Ross et al. 2011). A fresh adapter is trained on demonstrations, kept and corrected
sessions of all rounds so far, and all adapters are played in the holdout worlds. Kept and rejected sessions of one
world make preference pairs for TRL's DPO, and so do corrected ones and those that they continue.

    OUT/cycle.json                  what the folder belongs to
    OUT/round-R/acting/             the sessions of the round, as sekft-eval writes them
    OUT/round-R/kept.jsonl          those that succeeded and are trained on
    OUT/round-R/corrected.jsonl     those that the reference operator continued; keep says whether they are trained on
    OUT/round-R/preferences.jsonl   {prompt, chosen, rejected}, each a list of messages
    OUT/round-R/adapter/            trained in the round
    OUT/holdout/, OUT/report.json   every adapter in the holdout worlds, and what each round changed
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003 - the settings' types are read at run time
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import provenance
from tiararodney.sekft.console import aligned
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.episodes import Episode, read_episodes
from tiararodney.sekft.eval.outcomes import compare
from tiararodney.sekft.eval.report import p_text, rate_text
from tiararodney.sekft.eval.run import claim
from tiararodney.sekft.eval.statistics import group
from tiararodney.sekft.flags import Common
from tiararodney.sekft.folders import check_folder, write_whole
from tiararodney.sekft.resident.runs import check_training, evaluate_all, flags, train_once
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
    """Carry out a cycle, or what is left of one.

    Args:
        resident: with the base.
        args: flags of `CycleConfig`, and of a training.

    Raises:
        UsageError: a flag cannot be used, holdout and training worlds overlap, or the folder is another cycle's.
    """
    own, training = split_flags(args)
    config = read_settings(own, (CycleConfig, Common), "cycle", ABOUT).of(CycleConfig)
    check_folder(config.out, f"--out {config.out}")
    training = [*training, f"--seed={config.seed}"]
    demonstrations = [f"--data={path}" for path in config.data]
    check_training(resident, [*demonstrations, *training], "cycle")
    _check_apart(config)
    record = {k: v for k, v in to_json(config).items() if k != "rounds"}
    claim(config.out / "cycle.json", {"cycle": record | {"training": training}})
    adapters: dict[str, Path] = {}
    rounds: list[dict[str, Any]] = []
    for number in range(config.rounds + 1):
        folder, name = config.out / f"round-{number}", f"round-{number}"
        log.info("cycle: round %d of %d", number, config.rounds)
        data, found = demonstrations, {}
        if number:
            found = act(resident, config, number, adapters[f"round-{number - 1}"], folder)
            made = [config.out / f"round-{n}" / name for n in range(1, number + 1) for name in (KEPT, CORRECTED)]
            data = [*demonstrations, *(f"--data={file}" for file in made if any(r["keep"] for r in _read_lines(file)))]
        train_once(resident, [*data, *training], folder / "adapter")
        adapters[name] = folder / "adapter"
        holdout = _evaluation(config, config.holdout, config.holdout_n)
        report = evaluate_all(resident, holdout, adapters, config.out / "holdout", "cycle: holdout")
        rounds.append({"round": number} | found)
        record = write_report(config, rounds, report)
    print("\n".join(table(record)))
    print(f"\nreport: {config.out / 'report.json'}, {config.out / 'holdout' / 'report.html'}")
    return 0


def split_flags(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell a cycle's flags from those of its trainings."""
    mine = {flag for record in (CycleConfig, Common) for item in settings_of(record) for flag in item.flags}
    mine |= {"--help", "-h"}
    own: list[str] = []
    training: list[str] = []
    target = training
    for word in args:
        if word.startswith("-"):
            target = own if word.partition("=")[0].replace("_", "-") in mine else training
        target.append(word)
    return own, training


def _check_apart(config: CycleConfig) -> None:
    """Refuse holdout worlds that are acted in."""
    acted = worlds.select(config.scenarios, config.act_n, None).digests
    held = worlds.select(config.holdout, config.holdout_n, None).digests
    if shared := sorted(acted.keys() & held.keys()):
        raise UsageError(
            f"--holdout {config.holdout}: {len(shared)} of its worlds are acted in too, such as {shared[0]}. "
            "Give worlds of another split (posix-sdc generate --split holdout)."
        )


def _evaluation(config: CycleConfig, scenarios: Path, n: int | None, **more: Any) -> list[str]:
    limits = {"runtime": config.runtime, "max_new_tokens": config.max_new_tokens, "max_turns": config.max_turns}
    return flags({"scenarios": scenarios, "n": n, **limits, **more})


def act(resident: Resident, config: CycleConfig, number: int, adapter: Path, folder: Path) -> dict[str, Any]:
    """Let the adapter act in the training worlds, and write what comes of it.

    Args:
        resident: with the base.
        config: the cycle's.
        number: of the round, from 1.
        adapter: who acts.
        folder: the round's.

    Returns:
        How many sessions were played, succeeded, are trained on as they are or corrected, could not be corrected (by
        outcome), are rejected without, and how many preference pairs they make.
    """
    argv = _evaluation(
        config, config.scenarios, config.act_n, no_base=True, baselines=False, allow_seen=True,
        repeats=config.samples, temperature=config.temperature, seed=config.seed + number,
    )  # fmt: skip
    evaluate_all(resident, argv, {"actor": adapter}, folder / "acting", "cycle: acting")
    acted = worlds.select(config.scenarios, config.act_n, None)
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
    counts = {
        "sessions": sum(not e.infrastructure for e in episodes),
        "succeeded": sum(e.keep for e in episodes),
        "kept": len(kept),
        "corrected": sum(record["keep"] for record in corrected),
        "rejected": sum(not (e.infrastructure or e.keep) for e in episodes) - sum(r["keep"] for r in corrected),
        "went_wrong_by": dict(Counter(r["meta"]["astray"] for r in corrected if r["keep"])),
        "not_corrected": dict(Counter(r["outcome"] for r in corrected if not r["keep"])),
        "preference_pairs": len(pairs),
    }
    log.info("cycle: sessions=%(sessions)d succeeded=%(succeeded)d kept=%(kept)d corrected=%(corrected)d", counts)
    return counts


def choose(episodes: Sequence[Episode], most: int) -> list[Episode]:
    """Return the sessions to train on: verified, clean and rightly ended; at most so many of a world, the shortest."""
    return _first_of_each_world([e for e in episodes if e.keep], most, lambda e: (e.commands, e.sample))


def failed(episodes: Sequence[Episode], most: int) -> list[Episode]:
    """Return the sessions to correct: at most so many of a world that went wrong, the first ones."""
    wrong = [e for e in episodes if not e.keep and not e.infrastructure]
    return _first_of_each_world(wrong, most, lambda e: (e.sample,))


def _first_of_each_world(
    episodes: Sequence[Episode], most: int, order: Callable[[Episode], tuple[int, ...]]
) -> list[Episode]:
    """Return each world's first sessions in an order; of several with the same turns one counts."""
    out: list[Episode] = []
    for own in group([e.scenario_id for e in episodes], episodes).values():
        distinct = {tuple(m["content"] for m in e.messages): e for e in reversed(own)}
        out += sorted(distinct.values(), key=order)[:most]
    return out


def trajectory(episode: Episode, number: int, version: str) -> dict[str, Any]:
    """Return an episode as a trajectory's JSON values, which a training reads.

    Args:
        episode: a session.
        number: of the round in which it was played.
        version: of the scenario.
    """
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
    """Yield preference pairs.

    Every kept session stands against every rejected one of its world, every corrected one against the session that it
    continues otherwise. The prompt is what both sessions have in common up to the first reply in which they differ.

    Args:
        episodes: of one round.
        corrected: trajectories of the round, as JSON values.
    """
    played = [e for e in episodes if not e.infrastructure]
    pairs = [
        (good.messages, bad)
        for good in played
        for bad in played
        if good.keep and not bad.keep and good.scenario_id == bad.scenario_id
    ]
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
