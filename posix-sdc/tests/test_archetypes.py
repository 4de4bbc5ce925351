"""Every archetype's checker tells the solution from the untouched world and from near misses, in a plain folder."""

import random
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiararodney.posix_sdc.archetypes import AUTHORS
from tiararodney.posix_sdc.archetypes.base import Brief, holds, number_in, text_file, unwritten
from tiararodney.posix_sdc.generate import script
from tiararodney.posix_sdc.taxonomy import BY_NAME
from tiararodney.posix_sdc.vocabulary import Draw

SEEDS = range(2)
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/agent", "LC_ALL": "C.UTF-8"}


def author(name, seed):
    return AUTHORS[name](Brief(Draw(random.Random(f"{name}/{seed}"))))


def passes(work, commands, folder):
    """Stand the fixtures up, run the commands in one shell, judge."""
    folder.mkdir()
    for f in work.fixtures:
        path = folder / f.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f.content)
        path.chmod(int(f.mode, 8))
    run = {
        "cwd": folder,
        "env": ENVIRONMENT,
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "timeout": 20,
        "check": False,
    }
    subprocess.run(["/bin/sh", "-c", "\n".join(commands)], **run)
    return subprocess.run(["/bin/sh", "-c", script(work.checks)], **run).returncode == 0


@pytest.mark.parametrize("name", AUTHORS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_checker_passes_on_the_solution_and_on_nothing_less(name, seed, tmp_path):
    work = author(name, seed)
    assert passes(work, work.solution, tmp_path / "solved")
    assert not passes(work, (), tmp_path / "untouched")
    for i, commands in enumerate(work.near_misses):
        assert not passes(work, commands, tmp_path / f"near{i}"), commands


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(AUTHORS)), seed=st.integers(0, 10**9), pick=st.integers(0, 99))
def test_any_seed_gives_a_checker_that_holds(name, seed, pick):
    work = author(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        assert passes(work, work.solution, Path(folder) / "solved")
        assert not passes(work, (), Path(folder) / "untouched")
        near = work.near_misses[pick % len(work.near_misses)]
        assert not passes(work, near, Path(folder) / "near"), near


@pytest.mark.parametrize("name", AUTHORS)
def test_the_checker_passes_whichever_way_a_person_verifies(name, tmp_path):
    work = author(name, 11)
    for i, command in enumerate(work.verify):
        assert passes(work, (*work.solution, command), tmp_path / str(i)), command


@pytest.mark.parametrize("name", AUTHORS)
def test_an_archetype_names_three_near_misses_and_what_its_blocks_need(name):
    work = author(name, 5)
    blocks = BY_NAME[name].blocks
    assert len(work.near_misses) >= 3
    assert len(work.solution) == BY_NAME[name].steps
    assert work.inputs or not {"missing", "denied"} & set(blocks)
    assert work.outputs or "contradiction" not in blocks
    if "failing" in blocks:
        assert AUTHORS[name](Brief(Draw(random.Random(0)), failing=True)).reason


@pytest.mark.parametrize("name", AUTHORS)
def test_a_solution_follows_from_the_directive_and_the_files(name):
    for seed in range(8):
        work = author(name, seed)
        known = work.text + " ".join(f.path for f in work.fixtures)
        for path in (*work.inputs, *work.outputs):
            stem = path.rpartition("/")[2]
            assert stem.removesuffix(".gz") in known or name == "archive_unpack"


@pytest.mark.parametrize("name", AUTHORS)
def test_wording_varies(name):
    shapes = {" ".join(w for w in author(name, seed).text.split() if w.islower() and w.isalpha()) for seed in range(40)}
    assert len(shapes) >= 3


def sh(check, folder):
    return subprocess.run(["/bin/sh", "-c", check], cwd=folder, check=False, capture_output=True).returncode == 0


def test_holds_forgives_a_missing_last_newline_and_nothing_else(tmp_path):
    check = holds("it's.txt", ["a 'b' $c", "  d"])
    for text, right in [("a 'b' $c\n  d", True), ("a 'b' $c\n  d\n", True), ("a 'b' $c\n d\n", False), ("", False)]:
        (tmp_path / "it's.txt").write_text(text)
        assert sh(check, tmp_path) is right, text


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
