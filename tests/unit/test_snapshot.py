"""Snapshots with a Docker engine that is a table: when one is made, of what, and what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_archives import image_config, image_id, write_archive
from qsmr.dockercli import Docker, Result
from qsmr.errors import QsmrError
from qsmr.files import limit_umask
from qsmr.release import parse_env
from qsmr.signature import SigningKey
from qsmr.snapshot import (
    choose_snapshot,
    find_snapshots,
    in_words,
    newest_snapshot,
    read_snapshot,
    release_of,
    take_release,
)
from qsmr.snapshotmaker import Request, ensure

ROLE = Path(__file__).parents[2] / "roles" / "snapshot"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PASSWORD = "p w$HOME '\"#\\n å"


class FakeDocker:
    """The few docker commands that a snapshot needs."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[list[bytes], dict[str, str]]] = {}
        self.names = {"qsmr-fleet/worker": self.add([b"worker" * 1000], {})}
        self.calls: list[str] = []
        self.fail_at = ""

    def add(self, layers: list[bytes], labels: dict[str, str]) -> str:
        found = image_id(image_config(layers, labels))
        self.images[found] = (layers, labels)
        return found

    def run(self, argv: Sequence[str], env: object, timeout: float) -> Result:
        command = " ".join(argv[1:3]) if argv[1] == "image" else argv[1]
        self.calls.append(command)
        if command == self.fail_at:
            return Result(1, "", "Error: no space left on device")
        return getattr(self, command.replace(" ", "_"))(*argv[1 + len(command.split()) :])

    def image_inspect(self, name: str) -> Result:
        if name not in self.names:
            return Result(1, "[]", f"Error: No such image: {name}")
        layers = json.loads(image_config(self.images[self.names[name]][0]))["rootfs"]["diff_ids"]
        return Result(0, json.dumps([{"Id": self.names[name], "Size": 1000, "RootFS": {"Layers": layers}}]))

    def image_ls(self, *options: str) -> Result:
        key, value = options[-1].removeprefix("label=").split("=", 1)
        found = [image for image, (_layers, labels) in self.images.items() if labels.get(key) == value]
        return Result(0, "\n".join(found))

    def build(self, *options: str) -> Result:
        given = dict(zip(options, options[1:], strict=False))
        context = Path(options[-1])
        assert (context / "Dockerfile").read_text() == (ROLE / "files/Dockerfile").read_text()
        layers = [(context / name).read_bytes() for name in ("qsmr_data.tar", "qsmr.tar")]
        label = dict([given["--label"].split("=", 1)])
        built = self.add([*self.images[self.names["qsmr-fleet/worker"]][0], *layers], label)
        Path(given["--iidfile"]).write_text(built)
        return Result(0, "")

    def tag(self, image: str, name: str) -> Result:
        self.names[name] = image
        return Result(0, "")

    def save(self, _option: str, target: str, name: str) -> Result:
        layers, labels = self.images[self.names[name]]
        write_archive(Path(target), name, layers, labels)
        return Result(0, "")


@pytest.fixture
def docker():
    return FakeDocker()


@pytest.fixture
def given_parameters(tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    (code / "program").write_text("version 1\n")
    (code / "build.sh").write_text(
        "#!/bin/sh\necho built >>../builds\ntar -czf qsmr.tar.gz program\ntar -czf qsmr_data.tar.gz build.sh\n"
    )
    (code / "build.sh").chmod(0o755)
    config = tmp_path / "lab.conf"
    config.write_text(
        "ODIN_API_ROOT=http://odin.example/rest_api\nODIN_SECRET=0123456789abcdef\n"
        f"JOB_API_ROOT=http://jobs.example/rest_api\nJOB_API_USERNAME=ana\nJOB_API_PASSWORD={PASSWORD}\n"
    )
    return {
        "project": "demo",
        "odin_project": "",
        "config_file": str(config),
        "config": {},
        "qsmr_config": "",
        "invemode": "meso",
        "code_dir": str(code),
        "build_command": "./build.sh",
        "job_command": "/qsmr/run_runscript.sh /opt/matlab/v90",
        "job_timeout": "",
        "worker_image": "qsmr-fleet/worker",
        "worker_image_to_be_made": False,
        "dockerfile": str(ROLE / "files/Dockerfile"),
        "templates": str(ROLE / "templates"),
        "directory": str(tmp_path / "out"),
        "source": "",
        "signing_key": "",
        "trusted_keys": [],
        "stop_grace_seconds": 60,
    }


@pytest.fixture
def make(given_parameters, docker):
    """Make a snapshot of the parameters, some of them changed."""

    def make(now=NOW, check_mode=False, **changes):
        request = Request.checked({**given_parameters, **changes})
        return ensure(request, Docker(docker.run, os.environ), now, check_mode)

    return make


def builds(tmp_path: Path) -> int:
    path = tmp_path / "builds"
    return len(path.read_text().splitlines()) if path.exists() else 0


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_snapshot_holds_all_that_is_promised(make, docker, tmp_path):
    outcome = make()
    directory = tmp_path / "out" / "qsmr_snapshot_demo_261124"
    assert outcome.snapshot.directory == directory
    assert outcome.differences == ["snapshot: none -> new"]
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        ["docker_image", "docker-compose.yml", "start_worker.sh", "worker.env", "snapshot.json", "SHA256SUMS"]
    )
    assert {path.name for path in directory.parent.iterdir()} == {directory.name, ".qsmr_layers"}, (
        "nothing else is left"
    )
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=directory, check=True)

    manifest = json.loads((directory / "snapshot.json").read_text())
    assert manifest["snapshot_id"].startswith("261124-") and len(manifest["snapshot_id"]) == 17
    assert manifest["image"]["name"] == f"qsmr_snapshot_demo:{manifest['snapshot_id']}"
    assert manifest["image"]["id"] == docker.names[manifest["image"]["name"]]
    assert [layer["size"] for layer in manifest["image"]["layers"]] == [6000, 10240, 10240]
    assert manifest["image"]["base_layers"] == 1
    assert manifest["base_image"] == {"name": "qsmr-fleet/worker", "id": docker.names["qsmr-fleet/worker"]}
    assert manifest["archive"]["sha256"] == hashlib.sha256((directory / "docker_image").read_bytes()).hexdigest()
    assert manifest["created"] == "2026-11-24T12:00:00Z"
    assert manifest["settings"] == {"QSMR_CONFIG": "", "QSMR_INVEMODE": "meso"}
    assert manifest["code"] == {"directory": str(tmp_path / "code"), "git_commit": None, "git_dirty": None}


def test_the_password_is_in_worker_env_only(make, docker, tmp_path):
    make()
    directory = tmp_path / "out" / "qsmr_snapshot_demo_261124"
    assert stat.S_IMODE((directory / "worker.env").stat().st_mode) == 0o600
    assert f"UWORKER_JOB_API_PASSWORD={PASSWORD}\n" in (directory / "worker.env").read_text()
    for name, content in contents(directory).items():
        assert name == "worker.env" or PASSWORD.encode() not in content, name
    digest = hashlib.sha256((directory / "worker.env").read_bytes()).hexdigest()
    assert digest not in (directory / "SHA256SUMS").read_text(), "it would let the password be guessed offline"


def test_nothing_changed_means_nothing_done(make, docker, tmp_path):
    first = make()
    before = contents(tmp_path / "out")
    docker.calls.clear()
    again = make(NOW + timedelta(days=3))
    assert (again.actions, again.differences) == ([], [])
    assert again.snapshot == first.snapshot
    assert contents(tmp_path / "out") == before
    assert builds(tmp_path) == 1
    assert set(docker.calls) == {"image inspect"}


def test_an_image_that_left_the_docker_store_is_no_reason_to_build(make, docker, tmp_path):
    snapshot = make().snapshot
    del docker.images[docker.names.pop(snapshot.manifest["image"]["name"])]
    assert make().actions == []


CHANGES = {
    "code": (lambda code: (code / "program").write_text("version 2\n"), {}, True),
    "job command": (lambda code: None, {"job_command": "/qsmr/other"}, True),
    "QSMR_CONFIG": (lambda code: None, {"qsmr_config": "q_std"}, False),
    "odin project": (lambda code: None, {"odin_project": "other"}, False),
    "UWORKER_JOB_TIMEOUT": (lambda code: None, {"job_timeout": "3600"}, False),
    "docker-compose.yml": (lambda code: None, {"stop_grace_seconds": 5}, False),
    "UWORKER_JOB_API_PASSWORD": (lambda code: None, {"config": {"JOB_API_PASSWORD": "another"}}, False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_named_and_makes_a_further_snapshot(make, tmp_path, given_parameters, name):
    change, parameters, builds_image = CHANGES[name]
    first = make().snapshot
    before = contents(tmp_path / "out")
    change(Path(given_parameters["code_dir"]))

    planned = make(check_mode=True, **parameters)
    assert contents(tmp_path / "out") == before, "check mode only says what would be done"
    outcome = make(**parameters)
    assert [difference.split(": ")[0] for difference in outcome.differences] == [name]
    assert (planned.differences, planned.actions) == (outcome.differences, outcome.actions)
    assert "another\n" not in str(outcome) and "'another'" not in str(outcome), "not even a changed password is shown"

    assert outcome.snapshot.directory.name == "qsmr_snapshot_demo_261124_2"
    assert {path: content for path, content in contents(tmp_path / "out").items() if path in before} == before
    assert builds(tmp_path) == (2 if builds_image else 1)
    assert outcome.reused == ("" if builds_image else str(first.directory))
    assert newest_snapshot(tmp_path / "out", "demo") == outcome.snapshot
    assert make(**parameters).actions == [], "and then it is there"


def test_what_check_mode_foretells_is_what_is_made_where_the_image_is_there(make):
    make()
    foretold = make(check_mode=True, qsmr_config="q_std").foretold
    made = make(qsmr_config="q_std").snapshot
    hosts_get = release_of(made.directory)
    assert (foretold["snapshot"], foretold["files"]) == (hosts_get["snapshot"], hosts_get["files"])
    assert PASSWORD not in str(foretold)


def test_a_foretold_release_gets_its_secrets_on_the_control_node_alone(make, given_parameters):
    foretold = make(check_mode=True).foretold
    made = release_of(make().snapshot.directory)
    arguments = {"foretold": foretold, "config_file": given_parameters["config_file"], "config": {}, "count": "1"}
    take_release(arguments)
    assert set(arguments) == {"snapshot", "files", "worker_env", "count"}
    ours, theirs = parse_env(arguments["worker_env"]), parse_env(made["worker_env"])
    assert ours.pop("QSMR_SNAPSHOT_ID") == arguments["snapshot"]["snapshot_id"] != theirs.pop("QSMR_SNAPSHOT_ID")
    assert ours == theirs
    told = in_words({"differences": [f"image: a:1 -> {foretold['snapshot']['image']['name']}"], "changed": True})
    assert told == {"differences": ["image: a:1 -> the image to be built"], "changed": True}


def test_a_worker_image_that_is_to_be_made_means_another_snapshot(make):
    make()
    [difference] = make(check_mode=True, worker_image_to_be_made=True).differences
    assert difference.startswith("worker image: ") and difference.endswith(" -> to be built")
    assert make(worker_image_to_be_made=True).differences == [], "a run has made it by then, and looks at it"


def test_a_new_project_takes_the_image_of_another(make, docker, tmp_path):
    first = make().snapshot
    docker.calls.clear()
    outcome = make(project="Other")
    assert outcome.snapshot.directory.name == "qsmr_snapshot_Other_261124"
    assert outcome.reused == str(first.directory)
    assert builds(tmp_path) == 1
    assert set(docker.calls) == {"image inspect"}
    assert outcome.snapshot.id != first.id
    assert outcome.snapshot.manifest["image"] == first.manifest["image"]
    directory = outcome.snapshot.directory
    assert (directory / "docker_image").samefile(first.directory / "docker_image")
    environment = parse_env((directory / "worker.env").read_text())
    assert environment["UWORKER_JOB_API_PROJECT"] == "Other"
    assert environment["QSMR_SNAPSHOT_ID"] == outcome.snapshot.id
    assert f"image: {first.manifest['image']['name']}\n" in (directory / "docker-compose.yml").read_text()


def test_a_named_snapshot_is_used_without_any_code(make, docker, tmp_path):
    first = make(directory=str(tmp_path / "elsewhere")).snapshot
    docker.calls.clear()
    outcome = make(project="other", source=str(first.directory), code_dir="")
    assert outcome.reused == str(first.directory)
    assert outcome.snapshot.manifest["code"] == first.manifest["code"]
    assert docker.calls == []
    assert make(project="other", source=str(outcome.snapshot.directory), code_dir="").actions == []


def test_going_back_to_older_code_makes_the_newest_snapshot_of_it(make, tmp_path, given_parameters):
    program = Path(given_parameters["code_dir"]) / "program"
    first = make().snapshot
    program.write_text("version 2\n")
    make()
    program.write_text("version 1\n")
    third = make()
    assert third.reused == str(first.directory)
    assert newest_snapshot(tmp_path / "out", "demo") == third.snapshot
    assert builds(tmp_path) == 2


def test_capitals_make_docker_names_of_their_own(make):
    lower, upper = make(project="demo").snapshot, make(project="Demo").snapshot
    assert upper.directory.name == "qsmr_snapshot_Demo_261124"
    assert upper.manifest["image"]["name"].islower()
    for snapshot in (lower, upper):
        assert snapshot.manifest["image"]["name"] in (snapshot.directory / "start_worker.sh").read_text()
    assert "COMPOSE_PROJECT_NAME=qsmr-demo-" in (upper.directory / "start_worker.sh").read_text()
    assert "COMPOSE_PROJECT_NAME=qsmr-demo\n" in (lower.directory / "start_worker.sh").read_text()


def test_the_day_is_the_local_one_and_the_time_is_utc(make):
    late_evening = datetime(2026, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    snapshot = make(late_evening).snapshot
    assert snapshot.directory.name == "qsmr_snapshot_demo_261231"
    assert snapshot.id.startswith("261231-")
    assert snapshot.manifest["created"] == "2027-01-01T04:30:00Z"


def test_all_faults_are_named_at_once_and_nothing_is_made(make, tmp_path, given_parameters):
    Path(given_parameters["config_file"]).write_text("ODIN_API_ROOT=odin\nJOB_API_ROOT=http://jobs/\n")
    with pytest.raises(QsmrError) as raised:
        make(project="1st", odin_project="ö", code_dir=str(tmp_path / "nowhere"), invemode="a\nb")
    message = str(raised.value)
    for expected in (
        "Project name must only contain ascii letters",
        "Odin project name must only contain ascii letters",
        "Missing in config: ODIN_SECRET",
        "Missing in config: JOB_API_PASSWORD",
        "ODIN_API_ROOT does not look like an url: odin",
        "JOB_API_ROOT must not end with /",
        "invemode must be one line",
        "nowhere does not exist",
    ):
        assert expected in message
    assert not (tmp_path / "out").exists()
    assert builds(tmp_path) == 0


@pytest.mark.parametrize("command", ["", "./missing.sh", "./program", "no-such-command", "./build.sh 'open"])
def test_a_build_command_that_cannot_run_is_refused(make, command):
    with pytest.raises(QsmrError, match="Build command"):
        make(build_command=command)


def test_a_failing_build_shows_its_last_lines_and_leaves_nothing(make, tmp_path, given_parameters):
    script = Path(given_parameters["code_dir"]) / "build.sh"
    script.write_text("#!/bin/sh\nfor i in $(seq 50); do echo line $i; done\necho oops >&2\nexit 3\n")
    with pytest.raises(QsmrError, match="ended with exit code 3") as raised:
        make()
    assert "line 50\noops" in str(raised.value)
    assert "line 1\n" not in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_archives_of_an_earlier_build_do_not_count(make, tmp_path, given_parameters):
    code = Path(given_parameters["code_dir"])
    (code / "qsmr_data.tar.gz").write_text("precious")
    (code / "build.sh").write_text("#!/bin/sh\ntar -czf qsmr.tar.gz program\n")
    with pytest.raises(QsmrError, match=r"did not make qsmr_data\.tar\.gz"):
        make()
    assert (code / "qsmr_data.tar.gz").read_text() == "precious", "but nobody's data are deleted"
    assert sorted(path.name for path in code.iterdir()) == ["build.sh", "program", "qsmr.tar.gz", "qsmr_data.tar.gz"]


def test_archives_come_back_even_after_a_killed_build(make, given_parameters):
    code = Path(given_parameters["code_dir"])
    (code / ".qsmr_snapshot_earlier_qsmr_data.tar.gz").write_text("precious")
    (code / "qsmr_data.tar.gz").write_text("half wri")
    (code / "build.sh").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(QsmrError, match="exit code 1"):
        make()
    assert (code / "qsmr_data.tar.gz").read_text() == "precious"


def test_files_that_the_build_leaves_among_the_code_do_not_make_it_build_again(make, tmp_path, given_parameters):
    script = Path(given_parameters["code_dir"]) / "build.sh"
    script.write_text(script.read_text() + "date +%N >build.log\n")
    make()
    assert make().actions == []
    assert builds(tmp_path) == 1


def test_code_that_changes_while_it_is_built_is_built_again(make, tmp_path, given_parameters):
    script = Path(given_parameters["code_dir"]) / "build.sh"
    script.write_text(script.read_text() + "[ -e ../edited ] || echo 'version 1.5' >program; touch ../edited\n")
    outcome = make()
    assert "Files changed while the code was built" in outcome.warnings[0] and "program" in outcome.warnings[0]
    assert make().actions == ["image built and saved", "snapshot written"]
    assert make().actions == []


@pytest.mark.parametrize("command", ["build", "save", "tag"])
def test_a_failing_engine_is_quoted_and_leaves_nothing(make, docker, tmp_path, command):
    docker.fail_at = command
    with pytest.raises(QsmrError, match="no space left on device"):
        make()
    assert list((tmp_path / "out").iterdir()) == []
    docker.fail_at = ""
    make()
    assert builds(tmp_path) == (1 if command in ("save", "tag") else 2), "an image that is built is only saved"


def test_a_missing_worker_image_is_named(make, docker):
    del docker.names["qsmr-fleet/worker"]
    with pytest.raises(QsmrError, match="Worker image qsmr-fleet/worker is not on this machine"):
        make()
    assert make(check_mode=True).actions == ["image built and saved", "snapshot written"]


def test_a_new_worker_image_makes_a_new_snapshot(make, docker):
    make()
    docker.names["qsmr-fleet/worker"] = docker.add([b"worker 2"], {})
    assert [difference.split(": ")[0] for difference in make().differences] == ["worker image"]


DAMAGE = {
    "docker_image": lambda path: path.write_bytes(path.read_bytes().replace(b"worker", b"wOrker", 1)),
    "snapshot.json": lambda path: path.write_text(path.read_text().replace("meso", "stnd")),
    "start_worker.sh": lambda path: path.write_text(path.read_text() + "rm -r /\n"),
    "docker-compose.yml": lambda path: path.unlink(),
    "SHA256SUMS": lambda path: path.write_text(""),
    "worker.env": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_snapshot_is_not_used_and_a_whole_one_made(make, docker, tmp_path, name):
    first = make().snapshot.directory
    DAMAGE[name](first / name)
    outcome = make()
    assert outcome.snapshot.directory.name == "qsmr_snapshot_demo_261124_2"
    assert str(first) in "".join(outcome.warnings + outcome.differences)
    assert builds(tmp_path) == 1, "the image is in the Docker store still"
    outcome.snapshot.check_image()
    assert newest_snapshot(tmp_path / "out", "demo") == outcome.snapshot
    if name == "docker_image":
        with pytest.raises(QsmrError, match="is damaged"):
            make(source=str(first), code_dir="", project="other")
    else:
        with pytest.raises(QsmrError, match="snapshot"):
            make(source=str(first), code_dir="", project="other")


def test_what_a_killed_run_left_is_removed(make, tmp_path):
    partial = tmp_path / "out" / ".qsmr_snapshot_x1y2"
    partial.mkdir(parents=True)
    (partial / "docker_image").write_text("half")
    make()
    assert not partial.exists()


def test_layers_are_compressed_when_the_snapshot_is_made(make, tmp_path):
    layers = make().snapshot.manifest["image"]["layers"]
    stored = (tmp_path / "out/.qsmr_layers").glob("*.zst")
    assert {f"sha256:{path.name[:64]}" for path in stored} == {layer["diff_id"] for layer in layers}


def test_snapshot_whose_layers_cannot_be_compressed_is_one_all_the_same(make, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.qsmr_layers").write_text("in the way")
    outcome = make()
    assert outcome.snapshot
    assert ".qsmr_layers cannot be written to: " in outcome.warnings[0]


def test_two_runs_do_not_interleave(make, tmp_path, monkeypatch):
    import qsmr.snapshotmaker

    make()
    with (
        qsmr.snapshotmaker._locked(tmp_path / "out"),
        pytest.raises(QsmrError, match="Another run is making a snapshot"),
    ):
        make()


def test_a_full_disk_is_noticed_before_it_is_written(make, docker, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=999))
    with pytest.raises(QsmrError, match="Not enough disk"):
        make()
    assert "save" not in docker.calls
    assert list((tmp_path / "out").iterdir()) == []


def test_a_clock_that_was_set_back_leaves_the_newest_the_newest(make, tmp_path):
    make(NOW + timedelta(hours=1), invemode="a")
    second = make(NOW, invemode="b")
    assert second.snapshot.manifest["created"] == "2026-11-24T13:00:01Z"
    assert second.warnings == [
        "qsmr_snapshot_demo_261124 is dated 2026-11-24T13:00:00Z, which is still to come: check the clock; "
        "a snapshot that is made now is dated one second later, to be the newest"
    ]
    assert choose_snapshot("demo", tmp_path / "out") == second.snapshot, "workers.yml rolls it out"
    assert make(NOW, invemode="b").actions == [], "nothing has changed since"
    third = make(NOW - timedelta(days=1), invemode="c")
    assert choose_snapshot("demo", tmp_path / "out") == third.snapshot
    assert third.snapshot.directory.name == "qsmr_snapshot_demo_261124_3", "names tell the same order"
    assert third.snapshot.id.startswith("261124-")


def test_a_snapshot_without_a_date_is_not_whole(make, tmp_path):
    directory = make().snapshot.directory
    manifest, sums = directory / "snapshot.json", directory / "SHA256SUMS"
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace("2026-11-24T12:00:00Z", "yesterday"))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(manifest.read_bytes()).hexdigest()))
    with pytest.raises(QsmrError, match=r"is not a whole snapshot: snapshot\.json or SHA256SUMS is damaged"):
        read_snapshot(directory)


def test_snapshots_are_found_newest_first(make, tmp_path):
    make(NOW, invemode="a")
    make(NOW + timedelta(hours=1), invemode="b")
    make(NOW + timedelta(days=1), invemode="c")
    make(NOW + timedelta(days=2), project="another")
    (tmp_path / "out" / "qsmr_snapshot_notes").mkdir()
    (tmp_path / "out" / "qsmr_snapshot_demo_261130").mkdir()
    found, faults = find_snapshots(tmp_path / "out")
    assert [snapshot.directory.name.removeprefix("qsmr_snapshot_") for snapshot in found] == [
        "another_261126", "demo_261125", "demo_261124_2", "demo_261124",
    ]  # fmt: skip
    assert len(faults) == 1 and "qsmr_snapshot_demo_261130 is not a whole snapshot" in faults[0]
    assert newest_snapshot(tmp_path / "out", "nobody") is None
    with pytest.raises(QsmrError, match=r"is not a whole snapshot: snapshot\.json is missing"):
        read_snapshot(tmp_path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"]), min_size=1, max_size=20)
)
def test_any_password_comes_back_from_worker_env(make, password):
    outcome = make(config={"JOB_API_PASSWORD": password})
    text = (outcome.snapshot.directory / "worker.env").read_text()
    assert parse_env(text)["UWORKER_JOB_API_PASSWORD"] == password


def test_a_snapshot_is_told_by_its_whole_path(make, tmp_path, monkeypatch):
    """Whoever reads its files next need not begin in the same directory."""
    made = make().snapshot.directory
    monkeypatch.chdir(tmp_path)
    assert choose_snapshot("demo", Path("out")).directory == made
    assert choose_snapshot("demo", Path("elsewhere"), Path("out") / made.name).directory == made


@pytest.fixture(scope="module")
def signing_key(tmp_path_factory):
    key = tmp_path_factory.mktemp("keys") / "signing.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    key.chmod(0o600)
    return str(key)


def test_signed_snapshot_is_signed_once(make, tmp_path, signing_key):
    first = make(signing_key=signing_key).snapshot
    assert len((first.directory / "SHA256SUMS.sig").read_bytes()) == 64
    SigningKey(Path(signing_key)).trusted.check(first)
    assert not make(signing_key=signing_key).actions
    assert not make().actions  # whoever does not sign has the same snapshot
    (first.directory / "SHA256SUMS.sig").unlink()
    assert make(signing_key=signing_key, check_mode=True).differences == [f"signature: none of {signing_key} -> one"]


def test_image_of_an_unsigned_snapshot_is_never_signed(make, docker, tmp_path, signing_key):
    """Somebody who can write to the snapshots' directory could leave an image there that claims to be of this code."""
    planted = make().snapshot
    docker.calls.clear()
    signed = make(signing_key=signing_key)
    assert signed.reused == ""
    assert "save" in docker.calls
    assert signed.snapshot.directory != planted.directory
    again = make(signing_key=signing_key, project="other")
    assert again.reused == str(signed.snapshot.directory)
    with pytest.raises(QsmrError, match="is not signed"):
        make(signing_key=signing_key, project="third", source=str(planted.directory))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_permissions_of_a_snapshot_do_not_depend_on_the_umask(make, signing_key, tmp_path, umask):
    former = os.umask(umask)
    try:
        limit_umask()  # as the module does
        directory = make(signing_key=signing_key).snapshot.directory
    finally:
        os.umask(former)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes.pop(directory.name) == modes.pop("start_worker.sh") == 0o755
    assert modes.pop("worker.env") == 0o600
    assert set(modes) == {"docker_image", "docker-compose.yml", "snapshot.json", "SHA256SUMS", "SHA256SUMS.sig"}
    assert set(modes.values()) == {0o644}
    assert not [path for path in (tmp_path / "out").rglob("*") if path.stat().st_mode & 0o022]
