"""Of ``make chaos``: the schedule of its faults, and that it would see what is wrong in the end."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest
from chaos import CLOCK, KINDS, Chaos, schedule
from invariants import Facts, leaks_in_files, leaks_on_host, violations

JOBS = [f"1:{scan}" for scan in (7300000001, 7300000318)]
RELEASE, OTHER = "261124-0123456789", "261124-9876543210"
JOB = {"Status": "FINISHED", "IsClaimed": True, "Worker": "UWorker_host1_a"}
AUDIT = [{"event": "begin", "run": 1}, {"event": "end", "run": 1, "runs": {"host1": RELEASE, "host2": ""}}]
GOOD = Facts(
    wanted=[*JOBS, JOBS[0]],  # a scan may be in two lists
    jobs=[{**JOB, "Id": job} for job in JOBS],
    record={"NrJobsAdded": 2, "NrJobsFinished": 2, "NrJobsFailed": 0},
    ledger=dict.fromkeys(JOBS, "added"),
    level2=set(JOBS),
    release=RELEASE,
    current={"host1": RELEASE, "host2": RELEASE},
    running={"host1": [f"{RELEASE} running healthy"], "host2": [f"{RELEASE} running healthy"]},
    workers={"UWorker_host1_b"},
    audit=AUDIT,
    screens={"001-jobs.yml.txt": "fatal: [localhost]: no answer"},
)


def test_a_seed_is_a_schedule():
    assert schedule(7, 5) == schedule(7, 5)
    assert schedule(7, 5) != schedule(8, 5)


@pytest.mark.parametrize("seed", range(50))
def test_every_kind_of_fault_comes_and_none_hits_what_is_hit_already(seed):
    faults = schedule(seed, 3)
    assert {fault.kind for fault in faults} == set(KINDS)
    free = {}
    for fault in faults:
        places, (_, most) = KINDS[fault.kind]
        assert fault.where in places
        assert free.get(fault.where, 0) <= fault.at <= fault.at + fault.lasts <= 180.1
        assert fault.lasts <= most
        free[fault.where] = fault.at + fault.lasts


def test_many_seeds_hit_everything():
    hit = {(fault.kind, fault.where) for seed in range(50) for fault in schedule(seed, 3)}
    assert hit == {(kind, place) for kind, (places, _) in KINDS.items() for place in places}


def test_every_kind_is_one_that_can_be_done():
    assert [kind for kind in KINDS if not callable(getattr(Chaos, kind, None))] == []


def test_nothing_is_wrong_where_all_is_well():
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"jobs": GOOD.jobs[:1], "ledger": {JOBS[0]: "added"}}, [f"never added: {JOBS[1]}"]),
        ({"jobs": [*GOOD.jobs, GOOD.jobs[0]]}, [f"added more than once: {JOBS[0]}"]),
        ({"wanted": JOBS[:1], "record": {"NrJobsAdded": 1, "NrJobsFinished": 1, "NrJobsFailed": 0}},
         [f"added, but in no list: {JOBS[1]}"]),
        ({"record": {**GOOD.record, "NrJobsAdded": 3}}, ["counted wrongly: NrJobsAdded is 3, not 2"]),
        ({"jobs": [GOOD.jobs[0], {**JOB, "Id": JOBS[1], "Status": "Failed"}]}, [f"not processed: {JOBS[1]} is Failed"]),
        ({"jobs": [GOOD.jobs[0], {**JOB, "Id": JOBS[1], "Status": "STARTED"}]},
         [f"not processed: {JOBS[1]} is STARTED", f"held by nobody: {JOBS[1]} by UWorker_host1_a"]),
        ({"jobs": [GOOD.jobs[0], {**JOB, "Id": JOBS[1], "Status": "STARTED", "Worker": "UWorker_host1_b"}]},
         [f"not processed: {JOBS[1]} is STARTED"]),
        ({"level2": set(JOBS[1:])}, [f"without level 2: {JOBS[0]}"]),
        ({"ledger": {**GOOD.ledger, JOBS[0]: "sending"}}, [f"the ledger differs: {JOBS[0]} is sending"]),
        ({"ledger": {JOBS[0]: "added"}}, [f"the ledger differs: {JOBS[1]} is on one side only"]),
        ({"current": {"host1": RELEASE, "host2": OTHER}}, [f"on another release: host2 on {OTHER}"]),
        ({"running": {"host1": GOOD.running["host1"], "host2": []}}, ["workers: host2 has []"]),
        ({"running": {"host1": GOOD.running["host1"] * 2}},
         [f"workers: host1 has {list(GOOD.running['host1']) * 2}"]),
        ({"running": {"host1": [f"{RELEASE} running unhealthy"]}},
         [f"workers: host1 has ['{RELEASE} running unhealthy']"]),
        ({"audit": AUDIT[:1]}, ["the audit is wrong: runs [1] were begun, [] are over"]),
        ({"audit": [AUDIT[0], {**AUDIT[1], "runs": {"host1": OTHER}}]},
         [f"the audit is wrong: {{'host1': '{OTHER}'}} is to run, {{'host1': '{RELEASE}'}} does"]),
        ({"screens": {"002-jobs.yml.txt": "Traceback (most recent call last):"}}, ["traceback: 002-jobs.yml.txt"]),
        ({"leaks": ["host1: /tmp/x"]}, ["secret: host1: /tmp/x"]),
        ({"debris": [f"a{number}" for number in range(7)]}, ["left behind: a0, a1, a2, a3, a4 and 2 more"]),
    ],
)  # fmt: skip
def test_each_kind_of_violation_is_seen(changes, seen):
    assert violations(replace(GOOD, **changes)) == seen


def test_secrets_in_files_are_seen_where_they_need_not_be_or_others_may_read_them(tmp_path):
    for name, mode in {
        "a.log": 0o600,
        "demo.conf": 0o644,
        "odin/secret_key": 0o644,
        "closed/worker.env": 0o600,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x=hush")
        path.chmod(mode)
    (tmp_path / "odin").chmod(0o700)
    tmp_path.chmod(0o755)
    assert sorted(leaks_in_files(tmp_path, ["hush"])) == [str(tmp_path / "a.log"), str(tmp_path / "demo.conf")]
    assert leaks_in_files(tmp_path, ["other"]) == []


def test_secrets_on_hosts_are_seen():
    asked = []

    def run(words):
        asked.append(words)
        return "/opt/qsmr/demo/releases/x/worker.env\n/home/trace\n" if "grep" in words else "password: it's\n"

    assert leaks_on_host(run, ["it's"]) == ["/home/trace", "a worker's log"]
    assert """-e 'it'"'"'s'""" in asked[0]


def test_a_stepped_clock_is_one_for_all_of_python_and_shows_in_nothing_else():
    """Ansible writes the representation of a time into the code that it sends."""
    script = "import time; from datetime import datetime, UTC; now = datetime.now(UTC)"
    script += "; print(now.timestamp(), time.time(), repr(now), isinstance(datetime.fromtimestamp(0), datetime))"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env={"PYTHONPATH": str(CLOCK.parent)}, capture_output=True, text=True, check=True)
    first, second, rest = done.stdout.split(maxsplit=2)
    assert float(first) - time.time() == pytest.approx(3600, abs=60)
    assert float(second) - time.time() == pytest.approx(3600, abs=60)
    assert rest.startswith("datetime.datetime(") and rest.endswith("True\n")
