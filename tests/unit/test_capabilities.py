"""Containers that run an engine of their own ask for what the machine has: no version of Docker gives or drops more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from qsmr.capabilities import capabilities_of

REPOSITORY = Path(__file__).parents[2]
ALL = 0x1FFFFFFFFFF


def status(held: int) -> str:
    return f"Name:\tpython3\nCapEff:\t{0:016x}\nCapBnd:\t{held:016x}\nCapAmb:\t{0:016x}\n"


@pytest.mark.parametrize("lacks", [24, 21, 0, 37])
def test_what_the_machine_lacks_is_not_asked_for(lacks):
    every, found = capabilities_of(status(ALL)), capabilities_of(status(ALL & ~(1 << lacks)))
    assert len(every) == 38
    assert [name for name in every if name not in found] == [every[lacks]]


def test_bits_have_their_names():
    assert capabilities_of(status(1 << 24 | 1 << 21 | 1)) == ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"]


def test_this_machine_has_some():
    assert "CAP_CHOWN" in capabilities_of(Path("/proc/self/status").read_text())


def test_nothing_is_dropped_that_may_not_be_there_and_nothing_asked_for_whole():
    tasks = yaml.safe_load((REPOSITORY / "roles/container_fleet/tasks/present.yml").read_text())
    module = "community.docker.docker_container"
    [container] = [task[module] for task in tasks if module in task]
    assert "cap_drop" not in container
    assert container["capabilities"] == "{{ lookup('ansible.builtin.file', '/proc/self/status') | capabilities }}"
    assert "--cap-drop" not in (REPOSITORY / "tests/bench/push_lab.py").read_text()
