"""Scan id files: what is a row, what is a fault, and that faults come before any use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qsmr.errors import QsmrError
from qsmr.scanids import MOST_SHOWN, freq_modes_of, read_scans


@pytest.fixture
def scan_file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "scanids.txt"
        path.write_bytes(content)
        return path

    return write


def ids_of(path, skip=0):
    return [scan for _, scan, _ in read_scans(path, [1], skip)]


def fault_of(path, skip=0):
    with pytest.raises(QsmrError) as fault:
        ids_of(path, skip)
    return str(fault.value)


@pytest.mark.parametrize(
    "content",
    [b"1\n22\n333\n", b"1\r\n22\r\n333", b"\xef\xbb\xbf1\n22\n333\n", b"\n1\n\n  22\t\n \n333\n\n"],
    ids=["plain", "windows", "byte order mark", "blanks"],
)
def test_rows_are_read_in_order(scan_file, content):
    assert ids_of(scan_file(content)) == [1, 22, 333]


@given(st.lists(st.integers(1, 2**63 - 1), min_size=1), st.data())
def test_skip_counts_rows_and_not_blank_lines(tmp_path_factory, ids, data):
    blanks = data.draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids)))
    skip = data.draw(st.integers(0, len(ids) - 1))
    path = tmp_path_factory.mktemp("scans") / "scanids.txt"
    path.write_text("".join("\n" * blank + f"{scan}\n" for blank, scan in zip(blanks, ids, strict=True)))
    assert ids_of(path, skip) == ids[skip:]


@pytest.mark.parametrize(
    "word", ["+7", "007", "-5", "0", "1_000", "7.0", "1 2", "# a comment", "scan", "٧", str(2**63)]
)
def test_what_is_no_scan_id_is_named_with_its_line(scan_file, word):
    assert f"line 3: {word!r} is not a scan id" in fault_of(scan_file(f"1\n\n{word}\n2\n".encode()))


@given(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1))
def test_any_line_is_a_scan_id_or_a_fault(tmp_path_factory, line):
    path = tmp_path_factory.mktemp("scans") / "scanids.txt"
    path.write_bytes(b"1\n" + line.encode() + b"\n")
    try:
        ids = ids_of(path)
    except QsmrError as fault:
        assert "line 2" in str(fault)
    else:
        assert ids[1:] == ([] if not line.encode().strip() else [int(line.rpartition(":")[2])])


def test_every_bad_line_is_counted_and_the_first_are_shown(scan_file):
    said = fault_of(scan_file(b"bad\n" * 1000)).splitlines()
    assert len(said) == MOST_SHOWN + 2
    assert said[MOST_SHOWN] == f"and {1000 - MOST_SHOWN} lines more"
    assert said[-1].startswith("Nothing was sent")


def test_a_bad_line_among_the_skipped_ones_counts(scan_file):
    assert "line 1" in fault_of(scan_file(b"bad\n2\n"), skip=1)


def test_a_long_line_is_shown_cut(scan_file):
    assert len(fault_of(scan_file(b"9" * 100_000))) < 300


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_rows_is_a_fault(scan_file, content):
    assert "holds no scan ids" in fault_of(scan_file(content))


@pytest.mark.parametrize(("skip", "says"), [(2, "has 2 rows: skipping"), (5, "has 2 rows"), (-1, "0 or more")])
def test_a_skip_that_leaves_nothing_is_a_fault(scan_file, skip, says):
    assert says in fault_of(scan_file(b"1\n2\n"), skip)


def test_a_missing_file_is_a_fault(tmp_path):
    assert "cannot be read: No such file" in fault_of(tmp_path / "none.txt")


def test_a_line_may_name_its_frequency_mode(scan_file):
    assert list(read_scans(scan_file(b"2:7\n8\n"), [2])) == [(2, 7, 1), (2, 8, 2)]
    assert list(read_scans(scan_file(b"13:7\n2:8\n\n13:8\n"), [2, 13])) == [(13, 7, 1), (2, 8, 2), (13, 8, 4)]


@pytest.mark.parametrize(
    ("line", "modes", "says"),
    [
        ("8", [1, 2], "line 2: '8' names no frequency mode, and there are several"),
        ("2:7123994091", [1], "line 2: '2:7123994091' is of frequency mode 2, and qsmr_freq_mode is 1"),
        ("21:8", [1, 2], "line 2: '21:8' is of frequency mode 21, and qsmr_freq_mode is 1,2"),
        (f"3:{2**63}", [1], f"line 2: '3:{2**63}' is not a scan id"),
    ],
)
def test_a_line_of_another_frequency_mode_is_a_fault(scan_file, line, modes, says):
    with pytest.raises(QsmrError) as fault:
        list(read_scans(scan_file(f"1:7\n{line}\n".encode()), modes))
    assert str(fault.value).startswith(f"{scan_file(f'1:7{chr(10)}{line}{chr(10)}'.encode())} {says}\n")


@pytest.mark.parametrize(("text", "modes"), [("1", [1]), ("119", [119]), ("1, 2,13", [1, 2, 13]), ("1,1", [1])])
def test_frequency_modes_are_read(text, modes):
    assert freq_modes_of(text) == modes


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "one", "1000", "٧", "1,", "1 2"])
def test_what_is_no_frequency_mode_is_refused(text):
    with pytest.raises(QsmrError, match="requency mode"):
        freq_modes_of(text)
