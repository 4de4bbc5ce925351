"""Scenarios authored by a model behind a chat-completions endpoint, and believed in nothing.

assignment -> request -> reply -> bundle -> gate -> the reference operator finds it all out -> a scenario, or a reject

A reply is data: only the fields that a bundle has are taken from it, its id, split and ending are ours, and whatever it
wants to run runs in a world. A refused bundle is kept beside the good ones with the reason, which the model is told
before it tries again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.factory.teacher.prompt import REFUSED, SYSTEM, request
from tiararodney.posix_sdc.records.reader import Reader
from tiararodney.posix_sdc.records.schema import Scenario
from tiararodney.posix_sdc.records.store import file_name
from tiararodney.posix_sdc.sessions.gate import judge
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator
from tiararodney.posix_sdc.support.chat_completions import chat
from tiararodney.posix_sdc.support.whole import write_text
from tiararodney.posix_sdc.worlds.protocol import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from tiararodney.posix_sdc.factory.teacher.assignment import Assignment
    from tiararodney.posix_sdc.support.chat_completions import Completion, Endpoint

VERSION = "teacher-1"
REJECTED = "rejected"  # the folder of refused replies, beside the good bundles
REPLY_BYTES = 256 * 1024
NEAR_MISSES = 3  # that a bundle has to name
_FILES = 100
_KEPT = 20_000  # characters of a refused reply that are kept, and shown to the model again
_LIMITS = Limits(command_seconds=10, check_seconds=10, session_seconds=120)


class Refusal(StrEnum):
    """Why a reply is no scenario."""

    NO_JSON = "no JSON"
    TOO_LARGE = "too large"
    SHAPE = "shape"
    COPY = "copy"
    GATE = "gate"
    HIDDEN = "cannot be found out"


@dataclass
class Known:
    """The directives of all scenarios so far: none is taken twice. Shared by threads."""

    texts: set[tuple[str, ...]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def add(self, scenario: Scenario) -> bool:
        """Take a scenario's directives in; False when they are there already."""
        text = tuple(" ".join(d.text.split()) for d in scenario.directives)
        with self._lock:
            new = text not in self.texts
            self.texts.add(text)
        return new


class Refused(Exception):
    """A reply is no scenario."""

    def __init__(self, kind: Refusal, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind}: {reason}")


def author(
    assignment: Assignment, endpoint: Endpoint, runtime: str, attempts: int, known: Known, folder: Path
) -> Scenario | None:
    """Ask for one scenario until it passes, or until the attempts are used up.

    Args:
        assignment: what is wanted.
        endpoint: the teacher.
        runtime: where bundles are tried.
        attempts: replies to this assignment that are read, those of earlier runs included.
        known: scenarios that must not come again.
        folder: where refused replies are kept.

    Returns:
        The scenario, None when every reply was refused.

    Raises:
        UsageError: the endpoint refuses the request for good.
        InfrastructureError: the endpoint or the runtime fails; what is finished is on disk.
    """
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request(assignment)}]
    for attempt in range(attempts):
        file = folder / file_name(f"{assignment.id}-{attempt}")
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            reply, reason = before["reply"], before["reason"]
        else:
            completion = chat(endpoint, messages)
            reply = completion.text
            try:
                _expect_content(completion)
                return accepted(reply, assignment, endpoint.model, runtime, known)
            except Refused as refused:
                reply, reason = reply[:_KEPT], refused.reason
                refusal = {
                    "id": assignment.id,
                    "attempt": attempt,
                    "kind": refused.kind,
                    "reason": reason,
                    "reply": reply,
                }
                write_text(file, json.dumps(refusal, indent=1) + "\n")
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": REFUSED + reason}]
    return None


def _expect_content(completion: Completion) -> None:
    if completion.without_content:
        raise Refused(Refusal.NO_JSON, f"the reply has {completion.without_content}")


def accepted(reply: str, assignment: Assignment, model: str, runtime: str, known: Known) -> Scenario:
    """Return the scenario that a reply holds, once it has proved itself in worlds.

    Raises:
        Refused: it is none.
        InfrastructureError: the runtime failed, so nothing is known of it.
    """
    scenario = bundle(reply, assignment, model)
    reason = judge(scenario, runtime, _LIMITS, near_misses=True)
    if reason:
        raise Refused(Refusal.GATE, reason)
    _found_out(scenario, runtime)
    if not known.add(scenario):
        raise Refused(Refusal.COPY, "another scenario has the same directives")
    return scenario


def bundle(reply: str, assignment: Assignment, model: str) -> Scenario:
    """Return the scenario that a reply describes, untried.

    Raises:
        Refused: it describes none.
    """
    if len(reply.encode("utf-8", "replace")) > REPLY_BYTES:
        raise Refused(Refusal.TOO_LARGE, f"more than {REPLY_BYTES} bytes, expected one small JSON object")
    try:
        return _scenario(Reader(_object(reply), "reply"), assignment, model)
    except SchemaError as error:
        raise Refused(Refusal.SHAPE, str(error)) from None


def _object(reply: str) -> dict[str, Any]:
    """Return the JSON object in a reply, whatever words or fences stand around it."""
    reply = re.sub(r"\A\s*<think>.*?</think>", "", reply, flags=re.DOTALL)
    start, end = reply.find("{"), reply.rfind("}")
    try:
        found = json.loads(reply[start : end + 1], parse_constant=lambda _: None) if 0 <= start < end else None
    except json.JSONDecodeError as error:
        raise Refused(
            Refusal.NO_JSON, f"broken JSON at line {error.lineno} column {error.colno} ({error.msg})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise Refused(Refusal.NO_JSON, f"JSON that cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise Refused(Refusal.NO_JSON, "found no JSON object in the reply")
    return found


def _scenario(r: Reader, assignment: Assignment, model: str) -> Scenario:
    a = assignment
    terminal = "panic" if a.block else "exit"
    provider, said = (
        Reader(r.raw("provider"), "reply", "provider"),
        Reader(r.raw("announcement"), "reply", "announcement"),
    )
    works = [Reader(d, "reply", f"directives[{i}]") for i, d in enumerate(r.items("directives"))]
    misses = [
        list(Reader({"m": m}, "reply", f"near_misses[{i}]").strings("m")) for i, m in enumerate(r.items("near_misses"))
    ]
    if not works:
        raise r.refuse("directives", "at least one directive")
    if len(misses) < NEAR_MISSES:
        raise r.refuse("near_misses", f"at least {NEAR_MISSES} lists of commands on which the checker fails")
    files, own = r.items("fixtures"), provider.items("files")
    if len(files) + len(own) > _FILES:
        raise r.refuse("fixtures", f"at most {_FILES} files")
    reason = r.text("reason", "") if a.block else ""
    solutions = [list(w.strings("solution")) for w in works]
    if not a.block and not all(solutions):
        raise works[0].refuse("solution", "the commands that do the work, in every directive")
    data = {
        "id": a.id,
        "version": VERSION,
        "archetype": a.archetype.name,
        "terminal": terminal,
        "split": a.archetype.split,
        "environment": r.mapping("environment"),
        "workdir": a.workdir,
        "generator_model": model,
        "provider": {
            "name": provider.text("name"),
            "kind": a.provider,
            "documentation": a.documentation,
            "files": [_file(f, "provider.files", i, "root") for i, f in enumerate(own)],
            "verbs": provider.mapping("verbs"),
        },
        "announcement": {
            "kind": a.announcement,
            "text": said.text("text"),
            "variable": said.text("variable", ""),
            "path": said.text("path", ""),
        },
        "directives": [
            {
                "id": w.text("id"),
                "text": w.text("text"),
                "solution": solution,
                "inputs": list(w.strings("inputs")),
                "verify": list(w.strings("verify")),
                "block": a.block,
                "reason": reason,
            }
            for w, solution in zip(works, solutions, strict=True)
        ],
        "fixtures": [_file(f, "fixtures", i, "user") for i, f in enumerate(files)],
        "checker": {"script": r.text("checker")},
        "reference_solution": [] if a.block else [command for solution in solutions for command in solution],
        "family": a.archetype.family,
        "block": a.block,
        "near_misses": misses,
    }
    scenario = Scenario.from_json(data, "reply")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", scenario.provider.name):
        raise provider.refuse("name", "the name of a program")
    if "show" not in scenario.provider.verbs:
        raise provider.refuse("verbs", "an object with the calls 'show' and, where there is one, 'list' and 'done'")
    return scenario


def _file(data: object, at: str, index: int, owner: str) -> dict[str, Any]:
    r = Reader(data, "reply", f"{at}[{index}]")
    fields = {name: r.text(name, "") for name in ("path", "content", "mode", "target")}
    return fields | {"kind": r.text("kind", "file"), "owner": r.text("owner", owner)}


def _found_out(scenario: Scenario, runtime: str) -> None:
    """Let the reference operator play it: announcement, documentation and directives have to be there for the reader.

    Raises:
        Refused: somebody who starts from nothing cannot come to the work, or cannot do it.
    """
    try:
        played = run_session(scenario, ReferenceOperator(scenario), runtime, _LIMITS)
    except (LookupError, StopIteration, ValueError, TypeError, RuntimeError) as error:
        raise Refused(Refusal.HIDDEN, f"the session cannot be played ({type(error).__name__}: {error})") from None
    if played.outcome != "success":
        detail = played.meta.get("detail") or played.meta.get("reason", "")
        raise Refused(Refusal.HIDDEN, f"a session that starts from nothing ends as {played.outcome!r} ({detail})")
    shown = " ".join(" ".join(t.content for t in played.turns if t.role == "user").split())
    for directive in scenario.directives:
        if " ".join(directive.text.split()) not in shown:
            raise Refused(Refusal.HIDDEN, f"the provider never shows the text of directive {directive.id!r}")
    for call in scenario.provider.verbs.values():
        if call != "cat" and call not in shown:
            raise Refused(Refusal.HIDDEN, f"the documentation never shows {call!r}")
