"""stop.yml -e qsmr_remove=true: nothing of the project stays on a host, and what has to stay is named."""

from __future__ import annotations

import pytest
from host_double import image, state
from host_modules import Engine, ModuleLab
from qsmr.hostimage import PART_LABEL

OURS = ["qsmr_snapshot_demo:r1", "qsmr_snapshot_demo:r2"]


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    lab = ModuleLab(tmp_path, monkeypatch, capsys, Engine())
    lab.workers("r1")
    return lab


def container_of_another(lab: ModuleLab, image_name: str) -> None:
    """Another project, or the user herself, runs something of this image."""
    found = lab.engine.images[image_name]
    lab.engine.others = [
        {
            "Id": "other",
            "Name": "/other",
            "Image": found["Id"],
            "State": state("running"),
            "Config": {"Image": image_name},
        }
    ]


def test_tag_goes_though_a_container_of_another_project_uses_the_same_image(lab):
    """Equal code makes equal images: the other project has its own name for it."""
    theirs = "qsmr_snapshot_other:r1"
    both = {**image("sha256:r1"), "RepoTags": [OURS[0], theirs]}
    lab.engine.images |= {OURS[0]: both, theirs: both}
    container_of_another(lab, theirs)
    foretold = lab.stop(remove=True, check=True)
    done = lab.stop(remove=True)
    assert done["diff"]["after"]["images"] == []
    assert f"images: {', '.join(OURS)} -> none" in done["differences"]
    assert list(lab.engine.images) == [theirs]
    assert foretold["differences"] == done["differences"]
    assert not lab.stop(remove=True)["changed"]


def test_image_that_somebody_else_uses_by_our_name_stays_and_is_named(lab):
    container_of_another(lab, OURS[0])
    done = lab.stop(remove=True)
    assert list(lab.engine.images) == [OURS[0]]
    assert f"{OURS[0]} stays: a container that is not of this project is made from it" in str(done["warnings"])


def test_parts_that_a_push_left_which_was_cut_off_go(lab):
    """Images without a name, of the lowest layers: no push will take them up again."""
    part, other = image("sha256:part"), image("sha256:other part")
    part["Config"]["Labels"] = {PART_LABEL: "qsmr_snapshot_demo"}
    other["Config"]["Labels"] = {PART_LABEL: "qsmr_snapshot_other"}
    lab.engine.images |= {"sha256:part": part, "sha256:other part": other}
    foretold = lab.stop(remove=True, check=True)
    done = lab.stop(remove=True)
    assert list(lab.engine.images) == ["sha256:other part"]
    assert f"images: {', '.join([*OURS, 'sha256:part'])} -> none" in done["differences"]
    assert foretold["differences"] == done["differences"]


def test_networks_and_what_was_started_beside_the_workers_go(lab):
    """A container that asked for the services, and outlived its kill -9, held image and network."""
    lab.engine.networks = ["old-network"]
    asks = {
        "Id": "asks",
        "Name": "/qsmr-demo-check-7",
        "Image": lab.engine.images[OURS[0]]["Id"],
        "State": state("running"),
        "Config": {"Image": OURS[0], "Labels": {"com.docker.compose.oneoff": "True"}},
    }
    lab.engine.containers.append(asks)
    assert lab.stop()["changed"]
    assert [found["Id"] for found in lab.engine.containers if found is asks] == ["asks"], "no worker is stopped in vain"
    foretold = lab.stop(remove=True, check=True)
    done = lab.stop(remove=True)
    assert (lab.engine.containers, lab.engine.networks, lab.engine.images) == ([], [], {})
    assert "networks: old-network -> none" in done["differences"]
    assert foretold["differences"] == done["differences"]
    assert not lab.stop(remove=True)["changed"]


def test_network_alone_is_a_change_that_is_told(lab):
    """As a run leaves it that was killed in between."""
    lab.stop(remove=True)
    lab.engine.networks = ["left"]
    assert lab.stop(remove=True, check=True)["differences"] == ["networks: left -> none"]
    assert (lab.stop(remove=True)["changed"], lab.engine.networks) == (True, [])
