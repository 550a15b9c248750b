"""What the docker command says becomes what a user reads."""

from __future__ import annotations

import json

import pytest
from qsmr.dockercli import Container, Docker, Result, redact
from qsmr.errors import QsmrError
from uworker.settings import worker_name


def docker(answers: dict[str, Result], seen: list | None = None) -> Docker:
    """Docker whose commands are answered by their first words, and that has no others."""

    def run(argv, env, timeout):
        line = " ".join(argv)
        if seen is not None:
            seen.append((line, dict(env)))
        return next((result for start, result in answers.items() if line.startswith(start)), Result(127, "", "?"))

    return Docker(run, {"PATH": "/bin", "COMPOSE_FILE": "other.yml"})


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (Result(127, "", "docker: command not found"), "Docker is not installed"),
        (
            Result(
                1, "", "Got permission denied while trying to connect to the Docker daemon socket at unix:///x.sock"
            ),
            "add the user to the group docker, or set ansible_become",
        ),
        (Result(1, "", "Cannot connect to the Docker daemon at unix:///x.sock."), "the Docker engine does not run"),
        (
            Result(0, json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon at unix:///x."]})),
            "does not run",
        ),
        (Result(124, "", "no answer within 120 s"), "no answer within 120 s"),
        (Result(0, ""), "nothing, exit code 0"),
    ],
)
def test_unusable_docker_is_explained(result, says):
    with pytest.raises(QsmrError, match=says):
        docker({"docker info": result}).info()


def test_what_docker_said_last_reaches_the_user():
    failing = docker({"docker load": Result(1, "", "Loading layer\nwrite /x: no space left on device\n")})
    with pytest.raises(QsmrError, match="Loading failed: write /x: no space left on device"):
        failing.out("Loading", "load")


def test_what_compose_v1_says_last_is_not_what_it_has_to_say():
    said = "ERROR: for uworker  Range of CPUs is too wide\n\nEncountered errors while bringing up the project.\n"
    assert Result(1, "", said).words == "ERROR: for uworker  Range of CPUs is too wide"


def test_compose_settings_of_the_user_are_not_ours():
    seen: list = []
    docker({}, seen).call("ps")
    assert not [key for key in seen[0][1] if key.startswith("COMPOSE_")]
    assert "/usr/local/bin" in seen[0][1]["PATH"]


def test_image_that_is_not_there_is_no_error():
    assert docker({"docker image inspect": Result(1, "[]\n", "Error: No such image: x")}).image("x") is None


def test_podman_in_dockers_place_is_understood():
    info = {
        "host": {
            "arch": "amd64",
            "cpus": 4,
            "remoteSocket": {"path": "unix:///run/podman/podman.sock", "exists": True},
            "security": {"rootless": False},
        },
        "store": {"graphRoot": "/var/lib/containers/storage", "graphDriverName": "overlay"},
        "version": {"Version": "5.4.2"},
    }
    podman = docker(
        {
            "docker info": Result(0, json.dumps(info)),
            "docker image inspect": Result(125, "[]\n", "Error: it:1: image not known"),
        }
    )
    assert podman.info() == {
        "DockerRootDir": "/var/lib/containers/storage",
        "Driver": "podman",
        "Architecture": "amd64",
        "ServerVersion": "podman 5.4.2",
        "NCPU": 4,
        "Rootless": False,
        "Socket": "/run/podman/podman.sock",
    }
    assert podman.image("it:1") is None


def test_container_that_goes_away_meanwhile_is_left_out():
    there = inspected("a")
    gone = Result(1, json.dumps([there]), "Error: No such container: b")
    found = docker({"docker ps": Result(0, "a\nb\n"), "docker container inspect": gone}).containers("p")
    assert [container.name for container in found] == ["a"]


def test_worker_without_the_labels_of_docker_compose_is_seen_and_a_container_of_compose_run_is_none():
    labels = {
        "by-docker": {"com.docker.compose.oneoff": "False"},
        "by-podman": {},
        "run": {"com.docker.compose.oneoff": "True"},
    }
    there = [inspected(name) for name in labels]
    for found, name in zip(there, labels, strict=True):
        found["Config"]["Labels"] = labels[name]

    def run(argv, env, timeout):
        # An engine shows what has the labels that it is asked for.
        asked = [word[6:].split("=") for word in argv if word.startswith("label=com.docker.compose.oneoff")]
        ids = [name for name in labels if all(labels[name].get(key) == value for key, value in asked)]
        return Result(0, "\n".join(ids) if argv[1] == "ps" else json.dumps([f for f in there if f["Name"][1:] in argv]))

    found = Docker(run, {"PATH": "/bin"}).containers("p")
    assert [container.name for container in found] == ["by-docker", "by-podman"]


def inspected(name: str, env: tuple[str, ...] = (), hostname: str = "0123456789ab", **state: object) -> dict:
    return {
        "Id": f"id-{name}",
        "Name": f"/{name}",
        "Image": "sha256:i",
        "State": {"Status": "running", **state},
        "Config": {"Image": "x:1", "Hostname": hostname, "Env": list(env)},
    }


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        ({"Health": {"Status": "healthy"}}, "healthy"),
        ({"Health": {"Status": "unhealthy"}}, "unhealthy"),
        ({"Health": {"Status": "healthy"}, "Status": "exited"}, "exited"),
        ({"Health": {"Status": "healthy"}, "Status": "paused"}, "paused"),
        ({}, "running"),
    ],
)
def test_running_is_not_healthy(state, condition):
    assert Container.from_inspect(inspected("a", **state)).condition == condition


@pytest.mark.parametrize(
    ("host", "own"), [("", ""), ("host1", ""), ("host1", "uworker_1"), ("a-long-host-name.in.a.lab." + "x" * 40, "")]
)
def test_worker_has_the_name_that_it_gives_itself(host, own):
    env = (f"UWORKER_HOSTNAME={host}", f"UWORKER_CONTAINER_NAME={own}")
    assert Container.from_inspect(inspected("a", env)).worker == worker_name("0123456789ab", host, own)


def test_passwords_are_not_shown():
    env = {"UWORKER_JOB_API_PASSWORD": "s3cret", "EMPTY_PASSWORD": "", "UWORKER_JOB_API_USERNAME": "ana"}
    assert redact("ana: s3cret, again s3cret", env) == "ana: ********, again ********"
