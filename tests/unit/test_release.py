"""Release directories on a host."""

from __future__ import annotations

import os
import stat

import pytest
from qsmr.errors import QsmrError
from qsmr.hostpaths import disk_free, on_one_disk, unwritable
from qsmr.release import Releases, parse_env


@pytest.fixture
def releases(tmp_path):
    return Releases(tmp_path / "opt", "demo")


def test_env_lines_are_literal():
    text = "# comment\n\nQSMR_A=1\nQSMR_B=x=y # $HOME 'q' \"\nUWORKER_EMPTY=\nQSMR_C= blanks \n"
    assert parse_env(text) == {"QSMR_A": "1", "QSMR_B": "x=y # $HOME 'q' \"", "UWORKER_EMPTY": "", "QSMR_C": " blanks "}


@pytest.mark.parametrize("line", ["NO_SEPARATOR", "=value"])
def test_damaged_env_names_the_line_and_not_the_value(line):
    with pytest.raises(QsmrError, match="line 2 ") as caught:
        parse_env(f"QSMR_A=1\n{line}\n")
    assert line not in str(caught.value)


def test_release_is_written_with_its_permissions(releases):
    releases.write("r1", {"worker.env": "A=1\n", "docker-compose.yml": "x\n"})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in releases.directory("r1").iterdir()}
    assert modes == {"worker.env": 0o600, "docker-compose.yml": 0o640}
    assert stat.S_IMODE(releases.directory("r1").stat().st_mode) & 0o027 == 0


def test_differing_files_are_those_that_are_missing_changed_or_open(releases):
    files = {"worker.env": "A=1\n", "docker-compose.yml": "x\n", "snapshot.json": "{}"}
    assert releases.differing("r1", files) == list(files)
    releases.write("r1", files)
    assert releases.differing("r1", files) == []
    (releases.directory("r1") / "worker.env").chmod(0o644)
    (releases.directory("r1") / "snapshot.json").write_bytes(b"\xff")
    assert releases.differing("r1", files) == ["worker.env", "snapshot.json"]


def test_current_is_the_release_that_was_switched_to(releases):
    assert releases.current == ""
    for name in ("r1", "r2"):
        releases.write(name, {"snapshot.json": name})
        releases.switch(name)
        assert releases.current == name
        assert (releases.link / "snapshot.json").read_text() == name
    assert releases.ids() == ["r1", "r2"]


def test_release_whose_files_change_is_not_current_until_it_is_taken_up(releases):
    """A run that is killed after it wrote the files and before Compose read them must not look finished."""
    releases.write("r1", {"docker-compose.yml": "old"})
    releases.switch("r1")
    releases.write("r1", {"docker-compose.yml": "new"})
    assert releases.current == ""


def test_switch_that_was_killed_halfway_is_no_obstacle(releases):
    releases.write("r1", {"snapshot.json": ""})
    (releases.root / ".current.new").symlink_to("nowhere")
    releases.switch("r1")
    assert releases.current == "r1"


def test_unwritable_place_is_named_with_what_to_do(releases, tmp_path):
    (tmp_path / "opt").write_text("a file")
    with pytest.raises(QsmrError, match="cannot be written"):
        releases.write("r1", {"snapshot.json": ""})
    assert "is no directory" in unwritable(releases.root)
    assert unwritable(tmp_path / "new/directory") == ""


def test_directory_that_is_not_this_users_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.F_OK and path == tmp_path)
    missing = tmp_path / "opt/demo"
    assert unwritable(missing) == (
        f"{missing} is missing and {tmp_path} is not writable for this user: "
        f"give {missing} to the user, or set ansible_become"
    )


def test_room_is_that_of_the_disk_where_a_directory_will_be(tmp_path):
    assert disk_free(tmp_path / "not/there/yet") > 0
    assert on_one_disk(tmp_path / "a", tmp_path / "b/c")
