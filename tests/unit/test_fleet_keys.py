"""The demo's SSH keys: made once, for every host, and known_hosts says nothing but the truth."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "roles" / "container_fleet" / "files" / "keys.sh"


def make_keys(directory: Path, *hosts: str) -> str:
    return subprocess.run(["sh", SCRIPT, directory, *hosts], check=True, capture_output=True, text=True).stdout


def test_second_run_makes_nothing(tmp_path):
    assert make_keys(tmp_path, "host1=10.0.0.1")
    assert make_keys(tmp_path, "host1=10.0.0.1") == ""


def test_known_hosts_holds_each_host_s_key_by_address(tmp_path):
    make_keys(tmp_path, "host1=10.0.0.1", "host2=10.0.0.2")
    expected = [
        f"{address} {(tmp_path / host / 'ssh_host_ed25519_key.pub').read_text().strip()}"
        for host, address in (("host1", "10.0.0.1"), ("host2", "10.0.0.2"))
    ]
    assert (tmp_path / "known_hosts").read_text().splitlines() == expected


def test_new_host_and_new_address_keep_the_old_keys(tmp_path):
    make_keys(tmp_path, "host1=10.0.0.1")
    key = (tmp_path / "host1" / "ssh_host_ed25519_key").read_text()
    make_keys(tmp_path, "host1=10.1.0.1", "host2=10.1.0.2")
    assert (tmp_path / "host1" / "ssh_host_ed25519_key").read_text() == key
    assert [line.split()[0] for line in (tmp_path / "known_hosts").read_text().splitlines()] == ["10.1.0.1", "10.1.0.2"]


def test_control_node_may_log_in_and_nobody_else_reads_the_keys(tmp_path):
    make_keys(tmp_path / "ssh", "host1=10.0.0.1")
    ssh = tmp_path / "ssh"
    assert (ssh / "host1" / "authorized_keys").read_text() == (ssh / "id_ed25519.pub").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (ssh, *ssh.rglob("*"))} == {0}
