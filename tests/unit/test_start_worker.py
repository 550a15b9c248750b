"""start_worker.sh with commands that only note how they were called: each way that it can end."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

TEMPLATES = Path(__file__).parents[2] / "roles" / "snapshot" / "templates"
IMAGE, INPUTS = "qsmr_snapshot_demo:261124-0a1b2c3d4e", "sha256:1234"
PASSWORD = "p w$HOME ${x} `id` $(id) '\" # \\n %s å "
ENVIRONMENT = f"""UWORKER_JOB_API_ROOT=http://jobs.example/rest_api
UWORKER_JOB_API_PROJECT=demo
UWORKER_JOB_API_USERNAME=ana
UWORKER_JOB_API_PASSWORD={PASSWORD}
QSMR_CONFIG=
QSMR_SNAPSHOT_ID=261124-0a1b2c3d4e
"""
# Notes its calls; has the image once it is loaded; what fails is named by files beside it.
DOCKER = """#!/bin/bash
echo "docker $*" >>"$BOX/calls"
case "$1 $2" in
    "compose version") [ -e "$BOX/v2" ] ;;
    "compose --file") env -0 >"$BOX/environment" ;;
    "image inspect") [ -e "$BOX/loaded" ] && cat "$BOX/loaded" ;;
    "ps --quiet") if [ -e "$BOX/refusal" ]; then cat "$BOX/refusal" >&2; exit 1; fi ;;
    "info --format") [ "$3" != "{{.DriverStatus}}" ] && echo "$BOX" || cat "$BOX/store" 2>/dev/null ;;
    "load --input") [ ! -e "$BOX/bad_load" ] || exit 1; echo "${LOADS:-sha256:1234}" >"$BOX/loaded" ;;
esac
"""
COMPOSE_V1 = """#!/bin/bash
echo "docker-compose $*" >>"$BOX/calls"
if [ "$*" = version ]; then echo docker-compose version 1.29.2; exit; fi
env -0 >"$BOX/environment"
"""


class Box:
    """A snapshot directory, and a machine whose PATH has the usual tools and what is added."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self.snapshot = directory / "some where" / "qsmr_snapshot_demo_261124"
        self.snapshot.mkdir(parents=True)
        values = {
            "summed": 3,
            "image": IMAGE,
            "inputs": INPUTS,
            "inputs_label": "org.qsmr.fleet.inputs",
            "project": "demo",
        }
        environment = jinja2.Environment(  # noqa: S701 no HTML
            loader=jinja2.FileSystemLoader(TEMPLATES), keep_trailing_newline=True, undefined=jinja2.StrictUndefined
        )
        script = environment.get_template("start_worker.sh.j2").render(**values, compose_project="qsmr-demo")
        self.files = {"docker_image": "image" * 1000, "docker-compose.yml": "services:\n", "start_worker.sh": script}
        for name, text in self.files.items():
            (self.snapshot / name).write_text(text)
        sums = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in self.files.items())
        (self.snapshot / "SHA256SUMS").write_text(sums)
        (self.snapshot / "worker.env").write_text(ENVIRONMENT)
        self.bin = directory / "bin"
        self.bin.mkdir()
        for tool in ("bash", "env", "cat", "dirname", "sha256sum", "uname", "wc", "df", "awk"):
            (self.bin / tool).symlink_to(shutil.which(tool))

    def command(self, name: str, text: str) -> None:
        (self.bin / name).unlink(missing_ok=True)  # never write through the link to the machine's own command
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def start(self, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": str(self.bin), "BOX": str(self.root), "LANG": "C.UTF-8", **environment}
        script = self.snapshot / "start_worker.sh"
        return subprocess.run(["bash", script], env=variables, cwd="/", capture_output=True, text=True, timeout=30)

    @property
    def calls(self) -> str:
        path = self.root / "calls"
        return path.read_text() if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        pairs = (self.root / "environment").read_bytes().decode().rstrip("\0").split("\0")
        return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    box.command("docker", DOCKER)
    box.command("docker-compose", COMPOSE_V1)
    return box


def test_it_loads_the_image_and_starts_with_compose_v1(box):
    done = box.start()
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker load --input docker_image" in box.calls
    assert box.calls.endswith(
        "docker-compose --file docker-compose.yml up -d\ndocker-compose --file docker-compose.yml ps\n"
    )


def test_it_prefers_compose_v2(box):
    (box.root / "v2").touch()
    assert box.start().returncode == 0
    assert "docker compose --file docker-compose.yml up -d" in box.calls
    assert "docker-compose" not in box.calls.replace("docker-compose.yml", "")


def test_an_image_that_is_there_is_not_loaded_again(box):
    (box.root / "loaded").write_text(INPUTS)
    assert box.start().returncode == 0
    assert "load" not in box.calls


def test_another_image_of_that_name_is_replaced(box):
    (box.root / "loaded").write_text("sha256:older")
    assert box.start().returncode == 0
    assert "docker load" in box.calls


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_every_byte_of_the_environment_arrives(box, locale):
    assert box.start(LC_ALL=locale, UWORKER_JOB_API_PASSWORD="not this one").returncode == 0
    environment = box.environment
    assert environment["UWORKER_JOB_API_PASSWORD"] == PASSWORD
    assert environment["QSMR_CONFIG"] == ""
    assert environment["UWORKER_HOSTNAME"] == os.uname().nodename
    assert environment["COMPOSE_PROJECT_NAME"] == "qsmr-demo"
    assert PASSWORD not in box.calls


def test_compose_settings_of_the_user_do_not_matter(box):
    assert box.start(COMPOSE_FILE="other.yml", COMPOSE_PROFILES="x", CDPATH="/usr").returncode == 0
    assert not {"COMPOSE_FILE", "COMPOSE_PROFILES"} & set(box.environment)


@pytest.mark.parametrize("name", ["docker_image", "docker-compose.yml", "SHA256SUMS"])
@pytest.mark.parametrize("fault", ["changed", "missing", "cut short", "empty"])
def test_nothing_is_started_from_damaged_files(box, name, fault):
    path = box.snapshot / name
    text = path.read_text()
    if fault == "missing":
        path.unlink()
    else:
        path.write_text(
            {"changed": "x" + text[1:], "cut short": text[: text.rstrip().rfind("\n") + 1], "empty": ""}[fault]
        )
    done = box.start()
    assert done.returncode == 1
    assert "No worker started: files are damaged or missing" in done.stderr
    assert box.calls == ""


def says(done: subprocess.CompletedProcess[str], *words: str) -> bool:
    return done.returncode == 1 and all(
        word in done.stderr.splitlines()[-1] for word in ("No worker started: ", *words)
    )


def test_it_says_what_the_machine_lacks(box):
    (box.bin / "docker-compose").unlink()
    assert says(box.start(), "Docker Compose is missing")
    (box.bin / "docker").unlink()
    assert says(box.start(), "Docker is not installed")
    (box.bin / "sha256sum").unlink()
    assert says(box.start(), "sha256sum is missing")


def test_it_says_why_docker_refuses(box):
    (box.root / "refusal").write_text(
        "first line\nGot permission denied while trying to connect to the Docker daemon\n"
    )
    assert says(box.start(), "join the group docker")
    (box.root / "refusal").write_text("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n")
    assert says(box.start(), "the Docker engine does not answer: Cannot connect")
    assert "load" not in box.calls


def test_a_failing_load_starts_nothing(box):
    (box.root / "bad_load").touch()
    assert says(box.start(), "the image could not be loaded")
    assert " up " not in box.calls


def test_an_archive_of_another_image_starts_nothing(box):
    assert says(box.start(LOADS="sha256:another"), f"docker_image does not hold {IMAGE}")
    assert " up " not in box.calls


def test_a_full_disk_is_noticed_before_the_load(box):
    box.command("df", "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available'\necho '/dev/vda 9 9 3'\n")
    assert says(box.start(), "not enough disk")
    assert "load" not in box.calls


def test_room_is_looked_for_where_containerd_keeps_images(box):
    (box.root / "store").write_text("[[driver-type io.containerd.snapshotter.v1]]\n")
    box.command("df", '#!/bin/sh\necho "df $2" >>"$BOX/calls"\nexec /bin/df "$@"\n')
    box.start()
    place = "/var/lib/containerd" if Path("/var/lib/containerd").is_dir() else box.root
    assert f"df {place}\n" in box.calls


def test_podman_compose_starts_nothing(box):
    box.command("docker-compose", COMPOSE_V1.replace("docker-compose version 1.29.2", "podman-compose version 1.6.0"))
    assert says(box.start(), "podman-compose", "install docker-compose")
    assert " up " not in box.calls


@pytest.mark.parametrize(
    "root", ["http://localhost:5000/rest_api", "http://127.0.1.1/rest_api", "https://[::1]/rest_api"]
)
def test_a_service_on_the_worker_itself_starts_nothing(box, root):
    env = box.snapshot / "worker.env"
    env.write_text(env.read_text().replace("http://jobs.example/rest_api", root))
    assert says(box.start(), root, "is the worker itself in its container")
    assert " up " not in box.calls


def test_a_failing_compose_is_not_success(box):
    box.command("docker-compose", "#!/bin/sh\nexit 1\n")
    assert says(box.start(), "Compose could not start it")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "worker.env is missing"),
        (
            ENVIRONMENT.replace("UWORKER_JOB_API_PASSWORD", "UWORKER_OTHER"),
            "worker.env holds no UWORKER_JOB_API_PASSWORD",
        ),
        (ENVIRONMENT + "just words\n", "a line that is not KEY=VALUE"),
        (ENVIRONMENT + "LD_PRELOAD=/tmp/x.so\n", "a line that is not KEY=VALUE"),
    ],
)
def test_a_worker_env_that_is_not_whole_starts_nothing(box, content, words):
    path = box.snapshot / "worker.env"
    path.unlink()
    if content is not None:
        path.write_text(content)
    done = box.start()
    assert says(done, words)
    assert PASSWORD not in done.stdout + done.stderr
    assert " up " not in box.calls


def test_shellcheck_has_nothing_to_say(box):
    subprocess.run(["shellcheck", box.snapshot / "start_worker.sh"], check=True)
