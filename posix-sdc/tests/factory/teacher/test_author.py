"""A teacher is believed in nothing: what it sends is kept only once it has proved itself, whatever it sends."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tiararodney.posix_sdc.cli import main
from tiararodney.posix_sdc.factory.taxonomy import BY_NAME
from tiararodney.posix_sdc.factory.teacher import assignment
from tiararodney.posix_sdc.factory.teacher import author as teacher
from tiararodney.posix_sdc.factory.teacher.assignment import Assignment, assignments
from tiararodney.posix_sdc.factory.teacher.author import Known, Refusal, Refused, accepted, bundle
from tiararodney.posix_sdc.factory.teacher.prompt import REFUSED, SYSTEM
from tiararodney.posix_sdc.records.schema import load_scenarios
from tiararodney.posix_sdc.support.chat_completions import API_KEY
from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap

PROGRAM = """#!/bin/sh
case "${1-}" in
    rows) echo "7  from ben" ;;
    pull) [ "${2-}" = 7 ] && cat /usr/local/share/vorkun/7 ;;
    --help) printf 'vorkun rows: list the letters\\nvorkun pull ID: print one\\n' ;;
    *) echo "see vorkun --help" ;;
esac
"""


def good(text="Sort the lines of pear.txt into sorted.txt."):
    """Return a reply's object that passes."""
    return {
        "provider": {
            "name": "vorkun",
            "files": [
                {"path": "/usr/local/bin/vorkun", "content": PROGRAM, "mode": "755"},
                {"path": "/usr/local/share/vorkun/7", "content": f"{text}\n"},
            ],
            "verbs": {"list": "vorkun rows", "show": "vorkun pull"},
        },
        "announcement": {
            "text": "vorkun has something for you. Ask vorkun --help.",
            "variable": "NOTE",
            "path": "note",
        },
        "directives": [
            {
                "id": "7",
                "text": text,
                "solution": ["sort pear.txt > sorted.txt"],
                "inputs": ["pear.txt"],
                "verify": ["cat sorted.txt"],
            }
        ],
        "fixtures": [{"path": "/srv/lake/pear.txt", "content": "c\na\nb\n"}],
        "checker": """test "$(tr -d '\\n' < sorted.txt)" = abc && test "$(tr -d '\\n' < pear.txt)" = cab""",
        "near_misses": [["sort -r pear.txt > sorted.txt"], ["cp pear.txt sorted.txt"], ["sort -o pear.txt pear.txt"]],
    }


ASSIGNMENT = Assignment(
    id="teacher-train-0-00000-text_sort",
    archetype=BY_NAME["text_sort"],
    provider="mailbox",
    announcement="motd",
    documentation="help",
    workdir="/srv/lake",
    block="",
    words=("vorkun", "rows", "pull"),
)


@pytest.fixture(autouse=True)
def _bwrap(request):
    if request.node.get_closest_marker("bwrap") and (reason := bwrap.unusable()) is not None:
        pytest.skip(reason)


def refused(reply, runtime="bwrap"):
    with pytest.raises(Refused) as caught:
        accepted(reply if isinstance(reply, str) else json.dumps(reply), ASSIGNMENT, "m", runtime, Known())
    return caught.value.kind, caught.value.reason


def changed(**fields):
    return good() | fields


# ------------------------------------------------------------------------------------------- what is read of a reply


def test_only_a_bundles_own_fields_are_taken_and_the_rest_is_ours():
    reply = changed(
        id="../../etc/passwd", split="holdout", terminal="panic", quarantine="x", workdir="/", evil={"a": 1}
    )
    reply["fixtures"][0]["evil"] = reply["provider"]["evil"] = "x"
    scenario = bundle(json.dumps(reply), ASSIGNMENT, "m")
    assert (scenario.id, scenario.split, scenario.terminal) == (ASSIGNMENT.id, "train", "exit")
    assert (scenario.workdir, scenario.generator_model, scenario.quarantine) == ("/srv/lake", "m", "")
    assert "evil" not in json.dumps(scenario.to_json())
    assert {f.owner for f in scenario.provider.files} == {"root"}


@pytest.mark.parametrize(
    "around", ["{}", "```json\n{}\n```", "<think>{{ a plan }}</think>\nHere it is:\n{}\nGood luck!"]
)
def test_words_and_fences_around_the_object_do_not_matter(around):
    assert bundle(around.format(json.dumps(good())), ASSIGNMENT, "m").provider.name == "vorkun"


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        ("I cannot do that.", Refusal.NO_JSON, "no JSON object"),
        ("", Refusal.NO_JSON, "no JSON object"),
        ('{"provider": {', Refusal.NO_JSON, ""),
        ('{"provider": nonsense}', Refusal.NO_JSON, "broken JSON at line 1 column 14"),
        ("[" * 100_000 + "{}" + "]" * 100_000, Refusal.SHAPE, "provider"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, Refusal.TOO_LARGE, "more than 262144 bytes"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, Refusal.NO_JSON, "RecursionError"),
        (json.dumps({"x": "y" * 300_000}), Refusal.TOO_LARGE, "expected one small JSON object"),
        ("{}", Refusal.SHAPE, "field 'provider': found nothing"),
    ],
)
def test_what_is_no_object_is_refused(reply, kind, reason):
    found = refused(reply)
    assert found[0] == kind
    assert reason in found[1]


BROKEN = {
    "no directive": ({"directives": []}, "at least one directive"),
    "too few near misses": ({"near_misses": [["true"]]}, "at least 3 lists of commands"),
    "near misses that are no lists": ({"near_misses": ["a", "b", "c"]}, "near_misses[0]"),
    "no solution": ({"directives": [{"id": "7", "text": "x"}]}, "the commands that do the work"),
    "no checker": ({"checker": ""}, "a non-empty script"),
    "a checker that is no text": ({"checker": {"script": "true"}}, "'checker'"),
    "a list for a provider": ({"provider": [1]}, "'provider'"),
    "a name with a path": ({"provider": good()["provider"] | {"name": "../x"}}, "the name of a program"),
    "no way to show": ({"provider": good()["provider"] | {"verbs": {"list": "vorkun rows"}}}, "'show'"),
    "a thousand files": ({"fixtures": [{"path": f"/work/{i}"} for i in range(1000)]}, "at most 100 files"),
    "a path out of the world": ({"fixtures": [{"path": "/srv/../../etc/cron.d/evil"}]}, "without '..'"),
    "a relative path": ({"fixtures": [{"path": "evil"}]}, "an absolute path"),
    "modes that are none": ({"fixtures": [{"path": "/a", "mode": "rwx"}]}, "octal digits"),
}


@pytest.mark.parametrize(("change", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_an_object_that_is_no_bundle_is_refused(change, reason):
    kind, found = refused(changed(**change))
    assert kind == Refusal.SHAPE
    assert reason in found


def test_a_bundle_that_should_not_be_solvable_has_no_solution_of_record():
    blocked = Assignment(**(vars(ASSIGNMENT) | {"block": "missing"}))
    scenario = bundle(json.dumps(changed(reason="pear.txt is missing")), blocked, "m")
    assert (scenario.terminal, scenario.reference_solution) == ("panic", ())
    assert scenario.directives[0].extra["reason"] == "pear.txt is missing"


def test_assignments_are_the_same_for_the_same_seed_and_differ_by_it():
    kinds = tuple(BY_NAME.values())[:3]
    first = list(assignments(30, 1, "train", kinds))
    assert first == list(assignments(30, 1, "train", kinds))
    assert len({a.words for a in first} | {a.words for a in assignments(30, 2, "train", kinds)}) == 60
    assert Counter(a.archetype.name for a in first) == {k.name: 10 for k in kinds}
    assert 0 < sum(bool(a.block) for a in list(assignments(300, 1, "train", kinds))) < 75


# ------------------------------------------------------------------------------------------------ what is tried of it


@pytest.mark.bwrap
def test_a_good_bundle_is_accepted_once():
    known = Known()
    reply = json.dumps(good())
    assert accepted(reply, ASSIGNMENT, "m", "bwrap", known).reference_solution == ("sort pear.txt > sorted.txt",)
    with pytest.raises(Refused) as caught:
        accepted(reply, ASSIGNMENT, "m", "bwrap", known)
    assert caught.value.kind == Refusal.COPY


def mute(reply):
    reply["provider"]["files"][0]["content"] = "#!/bin/sh\necho 7; echo vorkun rows, vorkun pull\n"
    return reply


def undocumented(reply):
    reply["provider"]["files"][0]["content"] = PROGRAM.replace("vorkun pull ID", "you know what to do")
    return reply


def unannounced(reply):
    reply["announcement"]["text"] = "There is work."
    return reply


HOSTILE = {
    "a checker that always passes": (lambda r: r | {"checker": "true"}, Refusal.GATE, "an immediate exit succeeds"),
    "a checker that never passes": (lambda r: r | {"checker": "false"}, Refusal.GATE, "ends as 'unverified'"),
    "a checker without end": (lambda r: r | {"checker": "while :; do :; done"}, Refusal.GATE, "ends as 'unverified'"),
    "a checker that asks for any file": (
        lambda r: r | {"checker": "test -e sorted.txt"},
        Refusal.GATE,
        "passes on the near miss",
    ),
    "a solution that ends the session": (
        lambda r: r | {"directives": [r["directives"][0] | {"solution": ["exec true"]}]},
        Refusal.GATE,
        "ends as",
    ),
    "a fixture on the kernel's ground": (
        lambda r: r | {"fixtures": [{"path": "/proc/sys/kernel/core_pattern", "content": "|/evil"}]},
        Refusal.GATE,
        "it cannot be stood up",
    ),
    "a fixture below a link of its own": (
        lambda r: (
            r
            | {
                "fixtures": [
                    {"path": "/srv/o", "kind": "symlink", "target": "/etc"},
                    {"path": "/srv/o/x", "content": "x"},
                ]
            }
        ),
        Refusal.GATE,
        "it cannot be stood up",
    ),
    "a variable that is none": (lambda r: r | {"environment": {"A B": "x"}}, Refusal.GATE, "it cannot be stood up"),
    "a provider that shows nothing": (mute, Refusal.HIDDEN, "ends as 'bad_bundle' ("),
    "a provider without documentation": (undocumented, Refusal.HIDDEN, "ends as 'bad_bundle' ("),
    "an announcement of nothing": (unannounced, Refusal.HIDDEN, "ends as 'bad_bundle' ("),
}


@pytest.mark.bwrap
@pytest.mark.parametrize(("change", "kind", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_bundle_that_proves_nothing_is_refused(monkeypatch, change, kind, reason):
    monkeypatch.setattr(teacher, "_LIMITS", teacher.Limits(command_seconds=2, check_seconds=1))
    found = refused(change(copy.deepcopy(good())))
    assert found[0] == kind
    assert reason in found[1]


def test_a_bundle_that_writes_on_the_host_writes_nowhere(runtime, tmp_path):
    """Neither the solution nor the provider reaches the host, and a checker that writes is refused."""
    evil = f"touch {tmp_path}/evil /etc/evil /usr/bin/evil /root/evil; mkdir -p {tmp_path}/evil2"
    reply = good()
    assert refused(reply | {"checker": f"{evil}; {reply['checker']}"}, runtime)[0] is Refusal.GATE
    reply["directives"][0]["solution"].insert(0, f"({evil}) 2>/dev/null; :")
    reply["provider"]["files"][0]["content"] = PROGRAM.replace("case", f"({evil}) 2>/dev/null\ncase", 1)
    reply["fixtures"].append({"path": "/srv/lake/out", "kind": "symlink", "target": str(tmp_path)})
    assert accepted(json.dumps(reply), ASSIGNMENT, "m", runtime, Known()).id == ASSIGNMENT.id
    assert list(tmp_path.iterdir()) == []
    assert not [p for p in ("/etc/evil", "/usr/bin/evil", "/root/evil") if os.path.lexists(p)]


# ------------------------------------------------------------------------------------------------------ the command


def says(reply):
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def asked_for(body):
    """Return the words of the assignment in a request."""
    text = body["messages"][1]["content"]
    workdir = text.split("The working directory: ")[1].split(".")[0]
    name = text.split("Call the program ")[1].split(".")[0]
    return workdir, name


def fitting(body):
    """Answer a request for solvable work with a bundle of its own names."""
    workdir, name = asked_for(body)
    told = body["messages"][1]["content"]
    reply = json.loads(json.dumps(good(f"Sort pear.txt into sorted.txt, {name}.")).replace("vorkun", name))
    reply["fixtures"][0]["path"] = f"{workdir}/pear.txt"
    reply["announcement"]["path"] = f"{workdir}/note"
    program = reply["provider"]["files"][0]
    calls = f"{name} rows: list\n{name} pull ID: print one\n"
    if "usage" in told:
        program["content"] = program["content"].replace("*) echo", f"*) echo '{calls}'; echo")
    if "/usr/local/share/man" in told:
        reply["provider"]["files"].append({"path": f"/usr/local/share/man/{name}.txt", "content": calls})
    return reply


@pytest.fixture
def argv(server, tmp_path):
    out = tmp_path / "out"
    return [
        *("generate", "--n", "4", "--seed", "1", "--out", str(out), "--archetypes", "text_sort"),
        *("--teacher", server.url, "--model", "m", "--runtime", "bwrap", "--jobs", "2"),
    ]


@pytest.fixture
def solvable(monkeypatch):
    monkeypatch.setattr(assignment, "PANIC_EVERY", 10**9)


@pytest.mark.bwrap
def test_good_bundles_are_written_and_refused_ones_kept_with_their_reasons(
    server, argv, solvable, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv(API_KEY, "secret")
    bad = iter([{"checker": "true"}, {"near_misses": []}, {"fixtures": [{"path": "/../x"}]}])

    def answer(body):
        change = next(bad, None) if len(body["messages"]) == 2 else None
        return says(fitting(body) | change if change else fitting(body))

    server.answers = answer
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert said.endswith(
        "4 of 4 scenarios in {}, 0 given up; refused replies: shape 2, gate 1\n".format(tmp_path / "out")
    )
    made = load_scenarios(tmp_path / "out")
    assert len(made) == 4
    assert {s.generator_model for s in made} == {"m"}
    kept = [json.loads(p.read_text()) for p in (tmp_path / "out" / "rejected").iterdir()]
    assert Counter(k["kind"] for k in kept) == {"shape": 2, "gate": 1}
    assert all(k["reply"].startswith("{") and k["reason"] for k in kept)
    # The model is told why before it tries again, and the key goes along.
    (again,) = [b for _, b, _ in server.requests if "an immediate exit succeeds" in b["messages"][-1]["content"]]
    assert [m["role"] for m in again["messages"]] == ["system", "user", "assistant", "user"]
    assert again["messages"][0]["content"] == SYSTEM
    assert again["messages"][-1]["content"] == f"{REFUSED}an immediate exit succeeds"
    assert {key for _, _, key in server.requests} == {"Bearer secret"}
    assert main(["gate", "--scenarios", str(tmp_path / "out"), "--runtime", "bwrap"]) == 0


@pytest.mark.bwrap
def test_a_teacher_that_never_learns_is_given_up_and_not_asked_again(server, argv, solvable, capsys):
    server.answers = lambda _: says("no")
    assert main([*argv, "--attempts", "2"]) == 1
    assert "0 of 4 scenarios" in capsys.readouterr().out
    assert len(server.requests) == 8
    assert main([*argv, "--attempts", "2"]) == 1
    assert "4 given up; refused replies: no JSON 8" in capsys.readouterr().out
    assert len(server.requests) == 8
    # More attempts go on from what was said before.
    server.answers = lambda body: says(fitting(body))
    assert main([*argv, "--attempts", "3"]) == 0
    assert [len(b["messages"]) for _, b, _ in server.requests[8:]] == [6] * 4


@pytest.mark.bwrap
def test_a_killed_run_goes_on_and_asks_only_for_the_rest(server, argv, solvable, tmp_path, capsys):
    def slowly(body):
        time.sleep(0.3 if len(server.requests) < 3 else 30)
        return says(fitting(body))

    server.answers = slowly
    code = (
        "import sys; from tiararodney.posix_sdc import cli; "
        "from tiararodney.posix_sdc.factory.teacher import assignment; "
        "assignment.PANIC_EVERY = 10**9; sys.exit(cli.main())"
    )
    run = subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out, deadline = tmp_path / "out", time.monotonic() + 60
    while len(list(out.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    first = {p: p.read_bytes() for p in out.glob("*.json")}
    assert len(first) == 2
    before = len(server.requests)
    server.answers = lambda body: says(fitting(body))
    assert main(argv) == 0
    assert "already on disk: 2 scenarios" in capsys.readouterr().err
    assert len(server.requests) == before + 2
    assert {p: p.read_bytes() for p in first} == first
    assert len(load_scenarios(out)) == 4


@pytest.mark.bwrap
def test_an_endpoint_that_fails_is_a_failed_run_that_loses_nothing(server, argv, solvable, tmp_path, capsys):
    server.answers = lambda body: says(fitting(body)) if len(server.requests) < 3 else (404, b"no such model")
    assert main([*argv[:-1], "1"]) == 2
    assert "HTTP 404 no such model, expected an answer. Check --teacher, --model" in capsys.readouterr().err
    assert len(load_scenarios(tmp_path / "out")) == 2


def test_a_teacher_needs_an_address_and_a_model(tmp_path, capsys):
    argv = ["generate", "--n", "1", "--out", str(tmp_path / "out"), "--teacher"]
    assert main([*argv, "file:///etc/passwd", "--model", "m"]) == 2
    assert "expected the URL of a chat-completions endpoint" in capsys.readouterr().err
    assert main([*argv, "http://127.0.0.1:9"]) == 2
    assert "--teacher URL needs --model NAME" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
