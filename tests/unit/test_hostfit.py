"""How many workers a host gets, and what they may take of it."""

from __future__ import annotations

import pytest
from qsmr.errors import QsmrError
from qsmr.hostfit import Limits, checked_job_timeout, host_cores, host_memory, worker_count


@pytest.mark.parametrize(
    ("text", "cores", "gigabytes", "number"),
    [
        ("3", 1, 1, 3),
        ("0", 8, 8, 0),
        ("2 per core", 8, 16, 16),
        ("1 per 2 cores", 8, 16, 4),
        ("1 per 1.5 cores", 8, 16, 5),
        ("1 per 4 GB", 8, 67.3, 16),
        (" 3  per 10 GB ", 2, 31, 9),
        ("1 per GB", 2, 2.9, 2),
        ("1 per 8 cores", 4, 4, 1),
        ("0 per core", 4, 4, 0),
    ],
)
def test_number_of_workers(text, cores, gigabytes, number):
    assert worker_count(text, cores, int(gigabytes * 1e9)) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "1 per", "1 per 0 cores", "1 per host", "2per core", "1001"])
def test_what_is_no_number_of_workers_is_said_with_what_would_be(text):
    with pytest.raises(QsmrError, match="^qsmr_workers_per_host is"):
        worker_count(text, 4, 10**9)


def test_this_machine_has_a_size():
    assert host_cores() >= 1
    assert host_memory() > 10**8


@pytest.mark.parametrize(
    ("cpus", "memory", "nano_cpus", "size", "env"),
    [
        ("", "", 0, 0, {"UWORKER_CPUS": "0", "UWORKER_MEMORY": "0"}),
        ("2", "", 2_000_000_000, 0, {"UWORKER_CPUS": "2", "UWORKER_MEMORY": "0"}),
        ("0.35", "512M", 350_000_000, 512 * 2**20, {"UWORKER_CPUS": "0.35", "UWORKER_MEMORY": "512m"}),
        ("", "4g", 0, 4 * 2**30, {"UWORKER_CPUS": "0", "UWORKER_MEMORY": "4g"}),
    ],
)
def test_limits_for_compose_and_as_docker_shows_them(cpus, memory, nano_cpus, size, env):
    limits = Limits.checked(cpus, memory)
    assert (limits.nano_cpus, limits.memory_bytes, limits.env) == (nano_cpus, size, env)


@pytest.mark.parametrize(("text", "worker"), [("", ""), ("0", ""), ("3600", "3600"), ("0090", "90")])
def test_job_timeout_in_seconds(text, worker):
    assert checked_job_timeout(text) == worker


@pytest.mark.parametrize("text", ["1h", "-1", "1.5", "3 600", "٣", "1000000000"])
def test_what_is_no_job_timeout_is_said_with_what_would_be(text):
    with pytest.raises(QsmrError, match="^qsmr_job_timeout is .*whole seconds"):
        checked_job_timeout(text)


@pytest.mark.parametrize(
    ("cpus", "memory", "fault"),
    [("0", "", "cpus"), ("two", "", "cpus"), ("-1", "", "cpus"), ("", "4 GB", "memory"), ("", "1m", "memory")],
)
def test_limits_that_docker_would_not_take(cpus, memory, fault):
    with pytest.raises(QsmrError, match=f"^qsmr_worker_{fault} is"):
        Limits.checked(cpus, memory)
