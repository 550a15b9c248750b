"""Failed jobs by cause, and hosts that fail more than others."""

from __future__ import annotations

import time

import pytest
from qsmr.failures import chance, cluster, fisher_exact, host_of, host_shares, read_outputs, telling_line, template_of
from qsmr.jobapi import JobApiError
from qsmr.names import host_part, worker_name
from scipy import stats


def output(*lines: str) -> str:
    return "".join(f"2026-11-24T10:00:00.123456 - {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        (
            ["EXECUTOR: Starting execution", "STDERR: ValueError: bad", "EXECUTOR: Job process exited with code 1"],
            "ValueError: bad",
        ),
        (["STDERR: Traceback (most recent call last):", "STDERR:   File x", "STDERR: KeyError: 1"], "KeyError: 1"),
        (["STDOUT: connection refused", "STDOUT: bye"], "connection refused"),
        (["STDERR: strange", "STDOUT: bye"], "strange"),
        (["STDOUT: hello", "STDOUT: bye"], "bye"),
        (
            ["EXECUTOR: Starting execution", "EXECUTOR: Job process exited with code 137"],
            "Job process exited with code 137",
        ),
        (["STDOUT: 0 errors", "STDERR: Error using inv"], "Error using inv"),
        ([], "(no output)"),
    ],
)
def test_line_that_tells_why(lines, telling):
    assert telling_line(output(*lines)) == telling


def test_output_without_the_workers_marks_is_read_too():
    assert telling_line("a\nError: b\r\n\nc") == "Error: b"
    assert telling_line(None) == "(no output)"


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ("scan 7014791071 of mode 1 has 12.5e-3 K", "scan <n> of mode <n> has <n> K"),
        ("no file /data/qsmr/a-1.mat here", "no file <path> here"),
        ("GET http://odin/rest_api/v4/l1_log/1/7/: timeout", "GET <url> timeout"),
        ("at 2026-11-24T10:00:00.5Z and 10:11:12", "at <time> and <time>"),
        ("container 4f2a9c0d11ee died at 0x7ffe", "container <id> died at <id>"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id <id>"),
        ("10.87.0.11 refused", "<address> refused"),
        ("O3 of host1 is deadbeef", "O3 of host1 is deadbeef"),
        ("Job process exited with code 137", "Job process exited with code 137"),
    ],
)
def test_template_masks_what_differs(line, template):
    assert template_of(line) == template


def test_causes_are_ranked_with_an_example_and_their_hosts():
    failures = [(f"1:{n}", f"h{n % 2}", output(f"STDERR: scan {n} failed")) for n in range(6)]
    failures += [("1:9", "h9", output("STDERR: out of memory"))]
    first, second = cluster(failures)
    assert (first.template, first.example, first.count) == ("scan <n> failed", "scan 0 failed", 6)
    assert first.hosts == {"h0": 3, "h1": 3}
    assert (second.template, second.jobs) == ("out of memory", ["1:9"])


def test_templates_that_differ_in_few_words_are_one():
    names = ["alpha", "beta", "gamma", "delta"]
    (cause,) = cluster((name, "h", output(f"STDERR: cannot open product {name} for reading")) for name in names)
    assert cause.template == "cannot open product <*> for reading"
    assert cause.jobs == names
    assert len(cluster([("a", "h", "Error: one"), ("b", "h", "Error: two")])) == 2


def test_long_outputs_are_cheap():
    """The newest 500 of 64 KB each must not hold up a screen; a regular expression gone wild would."""
    text = output(*(f"STDOUT: spectrum {n} of {'ab ' * 20} fits" for n in range(550)))[-65000:]
    began = time.process_time()
    (cause,) = cluster((str(n), "h", text) for n in range(500))
    assert cause.count == 500
    assert time.process_time() - began < 5


@pytest.mark.parametrize("line", ["a" * 60000, "/" * 60000, "1" * 60000, "x://" * 15000, "a.b/" * 15000, "-" * 60000])
def test_odd_lines_take_no_time(line):
    began = time.process_time()
    template_of(telling_line(f"Error {line}"))
    telling_line(line)
    assert time.process_time() - began < 1


def test_bad_host_stands_out_and_others_do_not():
    shares = host_shares({"a": 100, "b": 100, "c": 20}, {"a": 2, "b": 3, "c": 12})
    assert [(share.host, share.stands_out) for share in shares] == [("c", True), ("b", False), ("a", False)]
    assert shares[0].share == 0.6
    assert shares[0].p < 1e-9


@pytest.mark.parametrize(
    "table",
    [(3, 0, 0, 3), (9, 0, 0, 60), (12, 8, 5, 195), (1, 99, 1, 9), (700, 4300, 9000, 86000), (0, 5, 3, 2), (2, 0, 0, 0)],
)
def test_exact_test_is_fishers(table):
    bad, good, others_bad, others_good = table
    expected = stats.fisher_exact([[bad, good], [others_bad, others_good]], "greater").pvalue
    assert fisher_exact(*table) == pytest.approx(expected, rel=1e-6)


def test_chances_are_not_told_to_be_none():
    assert [chance(p) for p in (0.0123, 6.4e-6, 0.0)] == ["p = 0.01", "p = 6e-06", "p < 1e-15"]


def test_few_jobs_or_equal_shares_prove_nothing():
    assert not any(share.stands_out for share in host_shares({"a": 2, "b": 100}, {"a": 1, "b": 1}))
    assert not any(share.stands_out for share in host_shares({"a": 50, "b": 50}, {"a": 25, "b": 25}))
    assert not any(share.stands_out for share in host_shares({"a": 50}, {"a": 50}))
    assert [share.p for share in host_shares({"a": 5, "b": 1}, {})] == [1.0, 1.0]


def test_worker_names_tell_the_host():
    assert host_of("UWorker_lab1_0123456789ab", {}) == "lab1"
    assert host_of("UWorker_lab_1_0123456789ab", {}) == "lab_1"
    assert host_of("UWorker_lab1_0123456789ab", {"UWorker_lab1_0123456789ab": "host1"}) == "host1"
    assert host_of("UWorker_lab1_uworker_1", {}) == "lab1"
    assert host_of("somebody", {}) == "somebody"
    assert host_of(None, {}) == "unknown"


def test_workers_of_a_host_with_a_long_name_are_of_that_host_when_they_are_gone():
    host = "node-17.retrieval-cluster.department-of-space-science.example.org"
    homes = {worker_name("0123456789ab", host_part(host)): host, "UWorker_lab1_0123456789ab": "lab1"}
    assert host_of(worker_name("ba9876543210", host_part(host)), homes) == host
    assert host_of(worker_name("ba9876543210", host), homes) == host, "as earlier versions cut it"


def test_job_that_is_gone_has_no_output():
    class Api:
        def output(self, _project, job):
            raise JobApiError("gone", status=404 if job == "a" else 503)

    assert list(read_outputs(Api(), "demo", ["a"])) == [("a", None)]
    with pytest.raises(JobApiError):
        list(read_outputs(Api(), "demo", ["a", "b"]))
