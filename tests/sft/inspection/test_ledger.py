"""What is remembered of every session, and what that costs."""

from __future__ import annotations

import sqlite3
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.sft.inspection.ledger import Ledger


def test_a_text_is_new_once():
    ledger = Ledger()
    assert [ledger.is_new(text) for text in ("a", "b", "a", "", "", "a\0b")] == [True, True, False, True, False, True]


def test_names_in_two_splits_are_listed_in_order():
    ledger = Ledger()
    for name, split in (("z", "train"), ("b", "train"), ("z", "holdout"), ("b", "train"), ("a", "1"), ("a", "2")):
        ledger.note("scenarios", name, split)
    ledger.note("archetypes", "b", "holdout")
    assert ledger.leaks("scenarios") == ["a", "z"]
    assert ledger.leaks("archetypes") == []


def test_names_may_hold_surrogates():
    ledger = Ledger()
    for split in ("train", "\udc80"):
        ledger.note("scenarios", "half \ud83d", split)
    assert ledger.leaks("scenarios") == ["half \ud83d"]


def test_the_ledger_stays_out_of_memory():
    ledger = Ledger()
    tracemalloc.start()
    try:
        for n in range(20_000):
            ledger.is_new(f"text {n}")
            ledger.note("scenarios", f"scenario {n}", "train")
        now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 100_000
    assert most < 200_000
    assert not ledger.is_new("text 7")


def test_a_full_disk_fails_with_a_sentence():
    ledger = Ledger()
    ledger._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(RunFailed, match="SQLITE_TMPDIR"):
        all(ledger.is_new(f"text {n}") for n in range(5_000))


def test_any_thread_may_close_it():
    held = [Ledger()]
    held[0].is_new("a")
    database = held[0]._database
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.clear).result()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        database.execute("SELECT 1")
