"""The output of a job: lines with a prefix, within the job service's limit."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from uworker.output import LINE_LIMIT, SERVICE_LIMIT, LineReader, Output

PREFIX = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} - (STDOUT|STDERR|EXECUTOR): ", re.ASCII)


def lines_of(output: Output) -> list[str]:
    return [PREFIX.sub("", line) for line in output.text().split("\n")[:-1]]


def read(*chunks: bytes) -> list[str]:
    output = Output()
    reader = LineReader("STDOUT", output)
    for chunk in [*chunks, b""]:
        reader.feed(chunk)
    return lines_of(output)


def test_each_line_has_time_and_source() -> None:
    output = Output()
    output.add("EXECUTOR", "Starting execution")
    assert PREFIX.match(output.text())
    assert output.text().endswith(" - EXECUTOR: Starting execution\n")


def test_lines_of_a_stream() -> None:
    assert read(b"one\n\ntw", b"o\r\nthree") == ["one", "", "two", "three"]


def test_bytes_that_are_no_utf8_and_nul_are_replaced() -> None:
    assert read(b"temp\xe9rature\0\n", b"after\n") == ["temp\ufffdrature\ufffd", "after"]


def test_a_character_cut_by_a_chunk_is_whole() -> None:
    assert read(b"gr\xc3", b"\xa5\n") == ["grå"]


def test_a_line_without_end_goes_on_in_the_next() -> None:
    lines = read(*[b"x" * 5_000] * 10)
    assert "".join(lines) == "x" * 50_000
    assert max(map(len, lines)) == LINE_LIMIT


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=30)), st.data())
def test_chunks_make_no_difference(lines: list[str], data: st.DataObject) -> None:
    whole = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True) if end > start]
    assert read(*chunks) == lines


def test_a_short_output_is_complete() -> None:
    output = Output()
    for number in range(1_000):
        output.add("STDOUT", str(number))
    assert lines_of(output) == [str(number) for number in range(1_000)]


def test_a_long_output_keeps_both_ends_and_tells_what_is_missing() -> None:
    output = Output()
    for number in range(20_000):
        output.add("STDOUT", f"line {number}")
    text = output.text()
    assert 60_000 < len(text.encode()) <= SERVICE_LIMIT
    lines = lines_of(output)
    assert (lines[0], lines[-1]) == ("line 0", "line 19999")
    mark = next(line for line in lines if line.startswith("[..."))
    assert f"{20_000 - (len(lines) - 1)} lines" in mark


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=30))
def test_the_limit_holds_in_bytes_for_any_characters(lines: list[tuple[int, int]]) -> None:
    output = Output(limit=3_000)
    for kind, length in lines:
        output.add("STDERR", "aå\u20ac\U0001f30d"[kind] * length)
    assert len(output.text().encode()) <= 3_000


def test_the_largest_lines_fit() -> None:
    output = Output()
    for _ in range(10):
        output.add("STDOUT", "\U0001f30d" * LINE_LIMIT)
    output.add("EXECUTOR", "Job process exited with code 0")
    assert len(output.text().encode()) <= SERVICE_LIMIT
    assert output.text().endswith("code 0\n")
