"""Every archetype's checker tells the solution from the untouched world and from near misses, in a plain folder."""

import contextlib
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from alternatives import ALTERNATIVES, answers
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_folder import PLAIN, SEEDS, author, failed, passes

from tiararodney.posix_sdc.factory.archetypes import AUTHORS, FOLLOWS
from tiararodney.posix_sdc.factory.checks import (
    Source,
    Unsuitable,
    holds,
    number_in,
    text_file,
    untouched,
    unwritten,
)
from tiararodney.posix_sdc.factory.taxonomy import BY_NAME


@pytest.mark.parametrize("name", PLAIN)
def test_the_checker_passes_on_the_solution_and_on_nothing_less(name, tmp_path):
    work = author(name, 0)
    assert passes(work, work.solution, tmp_path / "solved")
    assert not passes(work, (), tmp_path / "untouched")
    for i, commands in enumerate(work.near_misses):
        assert not passes(work, commands, tmp_path / f"near{i}"), commands


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(PLAIN), seed=st.integers(0, 10**9), pick=st.integers(0, 99))
def test_any_seed_gives_a_checker_that_holds(name, seed, pick):
    work = author(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        assert passes(work, work.solution, Path(folder) / "solved")
        assert not passes(work, (), Path(folder) / "untouched")
        near = work.near_misses[pick % len(work.near_misses)]
        assert not passes(work, near, Path(folder) / "near"), near


@pytest.mark.parametrize("name", PLAIN)
def test_the_checker_passes_whichever_way_a_person_goes_and_verifies(name, tmp_path):
    work = author(name, 11)
    for i, way in enumerate(work.ways):
        assert len(way) == len(work.solution)
        assert way != work.solution
        assert passes(work, way, tmp_path / f"way{i}"), way
    assert passes(work, (*work.solution, *work.verify), tmp_path / "verified"), work.verify


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(FOLLOWS)), first=st.sampled_from(PLAIN), seed=st.integers(0, 10**9))
def test_what_goes_on_with_a_former_result_has_a_checker_that_holds(name, first, seed):
    source = author(first, seed).result or Source("plum.txt", ("fig 12 oak", "sage 7 elm", "fig 44 ash", "teak 3 fir"))
    try:
        work = author(name, seed, source=source)
    except Unsuitable:
        return
    if source.path in work.outputs:  # two draws know nothing of each other's names
        return
    assert source.path in work.solution[0]
    assert source.path not in {f.path for f in work.fixtures}
    given = [text_file(source.path, source.lines)]
    with tempfile.TemporaryDirectory() as folder:
        assert passes(work, work.solution, Path(folder) / "solved", given)
        assert not passes(work, (), Path(folder) / "untouched", given)
        for i, near in enumerate(work.near_misses):
            assert not passes(work, near, Path(folder) / f"near{i}", given), near


def other_forms(source):
    """Return the file of a former step as it may be besides: without its last newline, or with other lines."""
    return [(lines, end) for lines in (source.lines, *source.others) for end in ("\n", "")][1:]


@pytest.mark.parametrize("name", sorted(FOLLOWS))
def test_work_is_judged_by_the_file_it_was_given(name, tmp_path):
    """Whatever right form the file of a former step has, what a solution makes of it is right, and nothing less is."""
    lines = ("fig 12 oak", "sage 7 elm", "fig 44 ash", "teak 3 fir")
    sources = [
        Source("plum.txt", lines, others=(("fig 12 oaksage 7 elm", *lines[2:]),)),
        Source("plum.txt", ("fig,12,oak",)),
        Source("plum.txt", ("fig 12", "sage 7", "fig 44")),
        Source("plum.txt", ("ERROR fig 12", "WARN oak 3", "ERROR elm 4")),
        Source("plum.txt", ("fig", "sage", "fig")),
        Source("plum.txt", ("fig,12,oak", "sage,7,elm")),
        Source("plum.txt", ("fig=12", "sage=7")),
    ]
    tried = 0
    for i, source in enumerate(sources):
        try:
            work = author(name, 3, source=source)
        except Unsuitable:
            continue
        if source.path in work.outputs:
            continue
        tried += 1
        for j, (made, end) in enumerate(other_forms(source)):
            given = [replace(text_file(source.path, made), content="\n".join(made) + end)]
            for k, commands in enumerate((work.solution, *work.ways)):
                assert passes(work, commands, tmp_path / f"{i}-{j}-{k}", given), (commands, made, end)
            assert not passes(work, (), tmp_path / f"{i}-{j}", given)
    assert tried


def test_a_checksum_of_a_file_with_newline_is_not_one_without(tmp_path):
    """The other form of a file is no excuse: its result counts where the file has that form."""
    source = Source("plum.txt", ("fig", "sage"))
    work = author("text_checksum", 3, source=source)
    (command,) = work.solution
    without = command.replace("plum.txt", "other.txt")
    given = text_file(source.path, source.lines)
    assert passes(work, (f"printf 'fig\nsage\n' > other.txt; {without}",), tmp_path / "right", [given])
    assert not passes(work, (f"printf 'fig\nsage' > other.txt; {without}",), tmp_path / "wrong", [given])


@pytest.mark.parametrize("name", sorted(FOLLOWS & set(ALTERNATIVES)))
def test_other_answers_take_a_file_without_its_last_newline(name, tmp_path):
    for source in (Source("plum.txt", ("fig 12", "sage 7", "fig 44")), Source("plum.txt", ("fig,12,oak",))):
        try:
            work = author(name, 3, source=source)
        except Unsuitable:
            continue
        if source.path in work.outputs:
            continue
        given = [replace(text_file(source.path, source.lines), content="\n".join(source.lines))]
        for i, answer in enumerate(answers(name, work.solution)):
            assert failed(work, (answer,), tmp_path / f"{len(source.lines)}-{i}", given) == [], answer


def test_joining_runs_lines_together_and_later_work_knows(tmp_path):
    """A file without its last newline is joined, and what is made of that is judged by what came of it."""
    first = author("files_join", 3, source=Source("plum.txt", ("fig,sage",)))
    joined = first.result
    assert joined.others == ((f"fig,sage{joined.lines[1]}", *joined.lines[2:]),)
    for name in ("tool_seal", "text_reverse", "text_upper", "text_checksum"):
        second = author(name, 5, source=joined)
        given = replace(text_file("plum.txt", ["fig,sage"]), content="fig,sage")
        both = replace(first, checks=(*first.checks, *second.checks), fixtures=(*first.fixtures, *second.fixtures))
        assert passes(both, (*first.solution, *second.solution), tmp_path / name, [given]), name


@pytest.mark.parametrize("name", sorted(FOLLOWS))
def test_a_filter_goes_on_with_lines_like_its_own(name):
    for seed in range(8):
        own = next(f for f in author(name, seed).fixtures if not f.path.startswith("/"))
        lines = tuple(own.content.splitlines())
        with contextlib.suppress(Unsuitable):
            assert "former.txt" in author(name, seed, source=Source("former.txt", lines)).solution[0]
            return
    pytest.fail("it takes none of eight files of its own making")


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("seed", SEEDS)
def test_breaking_any_one_constraint_fails_its_check(name, seed, tmp_path):
    """Each constraint is broken alone, over a world in which all of them hold."""
    work = author(name, seed)
    for i, check in enumerate(work.checks):
        assert check.broken_by, check.says
        assert check.says in failed(work, (*work.solution, *check.broken_by), tmp_path / str(i)), check


BANS = re.compile(
    r"no other|and nothing else|never|\b(not|without)\b.*(unpack|change)|[Ll]eave|only|stay|unchanged|do not"
)


@pytest.mark.parametrize("name", AUTHORS)
def test_a_directive_that_forbids_something_has_a_check_of_what_stays(name):
    """A word that forbids or protects stands for a check that something is absent, or as it was."""
    for seed in range(12):
        work = author(name, seed)
        if BANS.search(work.text):
            kept = [
                c for c in work.checks if re.search("as it was|there is no|has the mode|no others|in any order", c.says)
            ]
            assert kept or len(work.checks) > 1 or "right content" in work.checks[0].says, work.text


@pytest.mark.parametrize("name", AUTHORS)
def test_an_archetype_names_three_near_misses_and_what_its_blocks_need(name):
    work = author(name, 5)
    blocks = BY_NAME[name].blocks
    assert len(work.near_misses) >= 3
    assert len(work.solution) == BY_NAME[name].steps
    assert work.inputs or not {"missing", "denied"} & set(blocks)
    assert work.outputs or "contradiction" not in blocks
    if "failing" in blocks:
        failing = author(name, 0, failing=True)
        assert failing.reason
        assert set(failing.may_change) <= {f.path for f in failing.fixtures}


@pytest.mark.parametrize("name", AUTHORS)
def test_a_solution_follows_from_the_directive_and_the_files(name):
    for seed in range(8):
        work = author(name, seed)
        known = work.text + " ".join(f.path for f in work.fixtures)
        for path in (*work.inputs, *work.outputs):
            stem = path.rpartition("/")[2]
            assert stem.removesuffix(".gz") in known or name in ("archive_unpack", "archive_extract")


@pytest.mark.parametrize("name", AUTHORS)
def test_every_wording_names_what_the_work_begins_with(name):
    """A file, a folder above it or, of a program that runs, what its files are called by."""
    for seed in range(40):
        work = author(name, seed)
        for path in work.inputs:
            assert any(part.partition(".")[0] in work.text for part in path.split("/")), (path, work.text)


@pytest.mark.parametrize("name", AUTHORS)
def test_wording_varies(name):
    shapes = {" ".join(w for w in author(name, seed).text.split() if w.islower() and w.isalpha()) for seed in range(40)}
    assert len(shapes) >= 3


def sh(check, folder):
    return subprocess.run(["/bin/sh", "-c", check.test], cwd=folder, check=False, capture_output=True).returncode == 0


def test_holds_forgives_a_missing_last_newline_and_nothing_else(tmp_path):
    check = holds("it's.txt", ["a 'b' $c", "  d"])
    for text, right in [("a 'b' $c\n  d", True), ("a 'b' $c\n  d\n", True), ("a 'b' $c\n d\n", False), ("", False)]:
        (tmp_path / "it's.txt").write_text(text)
        assert sh(check, tmp_path) is right, text


def test_a_file_that_no_shell_can_hold_is_known_by_its_digest(tmp_path):
    check = untouched(text_file("a.tar", ["x\0y"]))
    assert "\0" not in check.test
    for text, right in [("x\0y\n", True), ("xy\n", False), ("x\0z\n", False)]:
        (tmp_path / "a.tar").write_text(text)
        assert sh(check, tmp_path) is right, text
    (tmp_path / "a.tar").unlink()
    assert not sh(check, tmp_path)


def test_holds_refuses_a_folder_and_nothing_at_all(tmp_path):
    assert not sh(holds("x", []), tmp_path)
    (tmp_path / "x").mkdir()
    assert not sh(holds("x", []), tmp_path)


def test_number_in_takes_blanks_and_no_second_word(tmp_path):
    for text, right in [("  7\n", True), ("7", True), ("7 plum.txt\n", False), ("8\n", False), ("", False)]:
        (tmp_path / "n").write_text(text)
        assert sh(number_in("n", 7), tmp_path) is right, text


def test_unwritten_takes_an_empty_file_that_a_redirection_left(tmp_path):
    assert sh(unwritten("o"), tmp_path)
    (tmp_path / "o").write_text("")
    assert sh(unwritten("o"), tmp_path)
    (tmp_path / "o").write_text("7\n")
    assert not sh(unwritten("o"), tmp_path)


def test_text_file_ends_in_a_newline():
    assert text_file("a", ["x", "y"]).content == "x\ny\n"
