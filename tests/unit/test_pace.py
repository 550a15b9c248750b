"""The pace follows the service: a simulated one that works on some requests at once, at a cost for request and job."""

import heapq
import statistics

import pytest
from qsmr.pace import Pace


def simulate(processes, for_request, for_job, jobs=20_000, most=8):
    """Adds jobs to a simulated service; returns the time, the longest answer and how many connections were usual."""
    pace, clock, left, slowest, connections = Pace(most), 0.0, jobs, 0.0, []
    free = [0.0] * processes
    under_way: list[tuple[float, int, float, int]] = []
    while left or under_way:
        while left and len(under_way) < pace.connections:
            size = min(left, pace.share(left))
            left -= size
            begins = max(clock, heapq.heappop(free))
            ends = begins + for_request + size * for_job
            heapq.heappush(free, ends)
            heapq.heappush(under_way, (ends, size, clock, len(under_way) + 1))
        clock, size, sent, beside = heapq.heappop(under_way)
        slowest = max(slowest, clock - sent)
        pace.follow(size, clock - sent, beside)
        connections.append(pace.connections)
    return clock, slowest, statistics.median(connections)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(("for_request", "for_job"), [(0.013, 0.0018), (0.002, 0.00005)])
def test_the_service_is_kept_at_work(processes, for_request, for_job):
    seconds, slowest, _ = simulate(processes, for_request, for_job)
    assert seconds < 1.25 * 20_000 * for_job / processes + 0.3
    assert slowest < 3


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_connections_are_few_more_than_help(processes):
    assert processes < simulate(processes, 0.013, 0.0018, most=20)[2] <= processes + 3


def test_a_service_that_becomes_slow_gets_less_at_a_time():
    pace = Pace(8)
    for _ in range(20):
        pace.follow(pace.size, pace.size * 0.0001, 1)
    assert pace.size == Pace.LARGEST
    for _ in range(10):
        pace.follow(pace.size, pace.size * 0.05, 1)
    assert pace.size == Pace.SMALLEST


def test_a_limit_on_connections_is_kept():
    assert simulate(20, 0.013, 0.0018, most=1)[2] == 1
