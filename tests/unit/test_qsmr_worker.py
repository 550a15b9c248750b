"""The modules that change a host's workers, as Ansible runs them: what is left of a switch that goes wrong."""

from __future__ import annotations

import pytest
from host_modules import ENGINE_DOWN, Engine, ModuleLab


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    return ModuleLab(tmp_path, monkeypatch, capsys, Engine())


def images(lab):
    return [container["Config"]["Image"] for container in lab.engine.containers]


def test_host_is_taken_back_from_a_release_during_which_its_engine_went_down(lab):
    """The engine is down when the deadline is missed, and back before the host would be given up."""
    lab.workers("r1")
    lab.engine.fatal, lab.engine.outage = "r2", 130.0
    said = lab.workers("r2", healthy_deadline=120)
    assert said["reverted"], said["msg"]
    assert said["msg"].splitlines()[-1] == "The host is back on r1, which is healthy."
    assert "the Docker engine does not run" in said["msg"].splitlines()[0]
    assert (images(lab), lab.releases.current, lab.releases.stable) == (["qsmr_snapshot_demo:r1"], "r1", "r1")
    assert said["gone"] == ["UWorker_host1_1", "UWorker_host1_2"], "the new release's worker, too"


def test_engine_that_stays_down_is_told_with_the_first_error_and_no_worker_is_called_gone(lab):
    """Nobody knows which workers run: their jobs are not for others."""
    lab.workers("r1")
    lab.engine.fatal, lab.engine.outage = "r2", 1e6
    said = lab.workers("r2", healthy_deadline=120)
    assert (said["reverted"], said["gone"]) == (False, [])
    lines = said["msg"].splitlines()
    assert lines[0].endswith("the Docker engine does not run: start it (systemctl start docker)")
    assert lines[-1].startswith("Taking the host back failed, too: ")


@pytest.mark.parametrize("revert", [True, False])
def test_what_compose_said_is_told_though_the_engine_does_not_answer_afterwards(lab, revert):
    lab.workers("r1")
    lab.engine.fails = {" up ": "no space left on device"}
    works = lab.engine.run

    def run(argv, env, timeout):
        result = works(argv, env, timeout)
        if " up " in " ".join(argv):
            lab.engine.fails = ENGINE_DOWN
        return result

    lab.engine.run = run
    said = lab.workers("r2", revert=revert)
    assert said["msg"].startswith("Compose did not start release r2: no space left on device")
    assert said["gone"] == []
