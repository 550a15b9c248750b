"""The ledger: what it keeps over the death of a process, and what it says when it cannot be used."""

import sqlite3
import threading
import time

import pytest
from qsmr.errors import QsmrError
from qsmr.ledger import _SCHEMA, Counts, Ledger, Outcome, Scan, run_lock


@pytest.fixture
def open_ledger(tmp_path):
    def opened(recipe="recipe", **options):
        return Ledger(tmp_path, recipe, **options)

    return opened


def add(ledger, *scans):
    ledger.intend([Scan(1, scan) for scan in scans])
    ledger.record([Outcome(Scan(1, scan), "added", "201") for scan in scans])


def want(ledger, *scans):
    return ledger.want((1, scan, row) for row, scan in enumerate(scans))


def test_what_was_recorded_is_known_to_the_next_run(open_ledger):
    first = open_ledger()
    add(first, 1, 2)
    first.intend([Scan(1, 3)])
    second = open_ledger()
    want(second, 1, 2, 3, 4)
    assert second.plan() == (2, 2)
    assert second.batch(0, 10)[1] == [Scan(1, 3), Scan(1, 4)]
    assert second.counts() == Counts(wanted=4, were_there=2, remain=2)


def test_another_recipe_makes_other_jobs(open_ledger):
    add(open_ledger("old"), 1)
    ledger = open_ledger("new")
    want(ledger, 1)
    assert ledger.plan() == (1, 0)


def test_batches_follow_the_list(open_ledger):
    ledger = open_ledger()
    assert want(ledger, 9, 3, 7, 3) == 1
    ledger.plan()
    place, batch = ledger.batch(0, 2)
    assert batch == [Scan(1, 9), Scan(1, 3)]
    assert ledger.batch(place, 2)[1] == [Scan(1, 7)]


def test_a_fault_in_the_list_leaves_nothing_wanted(open_ledger):
    ledger = open_ledger()

    def scans():
        yield 1, 1, 0
        raise QsmrError("line 2")

    with pytest.raises(QsmrError):
        ledger.want(scans())
    assert ledger.wanted() == 0


def test_reconcile_finds_what_is_gone(open_ledger):
    ledger = open_ledger()
    add(ledger, 1, 2, 3)
    assert ledger.reconcile([(1, 1, None), (1, 2, "its source_url is other")]) == 2
    assert ledger.added() == 1


def test_a_throwaway_ledger_knows_the_real_one_and_leaves_it_alone(open_ledger):
    real = open_ledger()
    add(real, 1)
    copy = open_ledger(throwaway=True)
    assert copy.added() == 1
    add(copy, 2)
    assert real.added() == 1


def test_agreement_is_remembered_and_forgotten(open_ledger):
    open_ledger().agree("as it was")
    assert open_ledger().agrees_with("as it was")
    assert not open_ledger().agrees_with("otherwise")
    open_ledger().agree(None)
    assert not open_ledger().agrees_with("as it was")
    assert not open_ledger().agrees_with(None)


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    with run_lock(tmp_path):
        pass
    with run_lock(tmp_path), pytest.raises(QsmrError, match="being added by"), run_lock(tmp_path):
        pass


def test_a_run_that_ends_soon_is_waited_for(tmp_path):
    held = threading.Event()
    order = []

    def other_run():
        with run_lock(tmp_path):
            held.set()
            time.sleep(0.3)
            order.append("other")

    thread = threading.Thread(target=other_run)
    thread.start()
    held.wait()
    with run_lock(tmp_path, patience=10):
        order.append("ours")
    thread.join()
    assert order == ["other", "ours"]


def test_a_file_that_is_no_ledger_is_named(tmp_path, open_ledger):
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, but text" * 100)
    with pytest.raises(QsmrError, match=r"ledger.sqlite cannot be used: .*move the file away"):
        open_ledger()


def test_a_ledger_of_a_former_format_keeps_what_it_knows(tmp_path, open_ledger):
    """It knows by which recipe its jobs were made: a target of another secret is no stranger's."""
    with sqlite3.connect(tmp_path / "ledger.sqlite") as former:
        former.executescript("".join(_SCHEMA[:2]) + "PRAGMA user_version = 2;")
        former.execute("INSERT INTO recipe VALUES (1, 'former secret')")
        former.executemany(
            "INSERT INTO job VALUES (1, ?, 1, ?, 1, '201', 7)", [(1, "added"), (2, "added"), (3, "conflict")]
        )
    ledger = open_ledger("present secret")
    assert ledger.added() == 2
    want(ledger, 1, 2, 3)
    ledger.reconcile([(1, 1, None), (1, 2, None), (1, 3, None)])
    assert ledger.plan() == (3, 0)
    ledger.intend([Scan(1, scan) for scan in (1, 2, 3)])
    ledger.record([Outcome(Scan(1, scan), "conflict", "409") for scan in (1, 2, 3)])
    ledger.settle_conflicts("only its target differs", accept=True)
    assert ledger.counts() == Counts(wanted=3, were_there=1, conflict=2)


def test_a_ledger_of_a_later_format_is_left_alone(tmp_path, open_ledger):
    with sqlite3.connect(tmp_path / "ledger.sqlite") as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(QsmrError, match="a newer qsmr-fleet wrote it"):
        open_ledger()
