"""The threat model's lines that need neither service nor Docker: names, archives, files' modes, and our own habits."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import stat
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from host_double import HostDouble, image, snapshot
from image_archives import image_config, image_id, write_archive
from push_snapshots import Target, files, layer, write_snapshot
from qsmr.archive import read_image, write_layer
from qsmr.audit import Audit
from qsmr.errors import QsmrError
from qsmr.files import limit_umask
from qsmr.hostimage import Wanted
from qsmr.hostregistry import Registry
from qsmr.ledger import Ledger
from qsmr.lock import Lock
from qsmr.progress import PushProgress
from qsmr.pushplan import plan
from qsmr.release import Releases, parse_env
from qsmr.scanids import read_scans
from qsmr.snapshot import read_snapshot
from qsmr.transport import Job, Start, agent_command, distribute
from worker_snapshots import write_sums

REPOSITORY = Path(__file__).parents[2]
LAYERS = [layer(files(1)), layer(files(2))]
BARE = {"image": "", "staged": {}, "layers": 0, "kept": [], "store": "overlay2", "docker": "26", "zstd": True}
AWAY = ["../../etc", "..", "/etc/passwd", "a/../../b", "", "-v", "a b", "x;id", "$(id)", "x\n", "{{ 1 }}"]


@pytest.fixture
def made(tmp_path):
    return write_snapshot(tmp_path / "snapshots", 1, LAYERS)


def rewrite(made: Path, **changes) -> None:
    """Another snapshot.json, with sums that fit: what somebody would do who knows how."""
    manifest = json.loads((made / "snapshot.json").read_text())
    (made / "snapshot.json").write_text(json.dumps({**manifest, **changes}))
    write_sums(made)


# Names that become parts of paths, command lines and scripts


@pytest.mark.parametrize("name", AWAY)
def test_release_is_one_name_below_its_directory(tmp_path, name):
    releases = Releases(tmp_path, "demo")
    for use in (releases.directory, releases.read, lambda name: releases.write(name, {"x": "y"})):
        with pytest.raises(QsmrError, match="cannot be a release"):
            use(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", AWAY)
def test_project_is_a_plain_name_on_the_host_too(tmp_path, name):
    with pytest.raises(QsmrError, match="Project name must only contain ascii letters and digits"):
        Releases(tmp_path, name)


@pytest.mark.parametrize(
    "module", ["qsmr_worker", "qsmr_stop", "qsmr_image", "qsmr_lock", "qsmr_prune", "qsmr_worker_info"]
)
def test_module_on_a_host_names_a_wrong_project_and_does_nothing(tmp_path, module):
    given = {
        "project": "../../home", "host_dir": str(tmp_path / "opt"), "compose_project": "c", "hostname": "h",
        "release": "r", "image": "i", "remove": True, "state": "present",
        "lock": {"id": "1", "expires": 1}, "snapshot": snapshot(),
    }  # fmt: skip
    text = (REPOSITORY / f"library/{module}.py").read_text()
    options = yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.S)[1])["options"]
    taken = {*options, "project", "host_dir", "compose_project"} - ({"snapshot"} if module == "qsmr_worker" else set())
    taken -= {"compose_project"} if module in ("qsmr_image", "qsmr_lock") else set()
    arguments = {"ANSIBLE_MODULE_ARGS": {name: value for name, value in given.items() if name in taken}}
    script = (
        "import ansible.module_utils, sys; sys.path[:0] = ['library']\n"
        "ansible.module_utils.__path__.append('plugins/module_utils')\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        f"import {module}\nwith patch_module_args({arguments['ANSIBLE_MODULE_ARGS']!r}): {module}.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout or "{}")
    assert "Project name must only contain ascii letters" in answer.get("msg", ""), done.stdout + done.stderr
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize(
    "changes",
    [{"snapshot_id": name} for name in AWAY]
    + [{"project": name} for name in AWAY]
    + [{"odin_project": "x; id"}, {"inputs": "sha256:x ]; touch x; ["}, {"inputs": "sha256:../x"}, {"image": None}],
)
def test_snapshot_with_names_that_lead_elsewhere_is_refused(made, changes):
    rewrite(made, **changes)
    with pytest.raises(QsmrError, match=r"cannot be right|name must only contain|is damaged"):
        read_snapshot(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x;touch y:1"},
        {"name": "--help:1"},
        {"name": "repository:$(id)"},
        {"name": "../x:1"},
        {"id": "sha256:../../x"},
        {"layers": [{"diff_id": "sha256:../../../etc/cron.d/x", "size": 1}]},
        {"layers": [{"diff_id": "../x", "size": 1}]},
    ],
)
def test_image_with_names_that_lead_elsewhere_is_refused_on_the_host_too(made, changes):
    named = json.loads((made / "snapshot.json").read_text())["image"]
    rewrite(made, image={**named, **changes})
    for read in (read_snapshot, lambda _made: Wanted.from_snapshot(json.loads((made / "snapshot.json").read_text()))):
        with pytest.raises(QsmrError, match="holds names that cannot be right"):
            read(made)


@pytest.mark.parametrize("key", ["PATH", "LD_PRELOAD", "DOCKER_HOST", "COMPOSE_FILE", "BASH_ENV"])
def test_worker_env_sets_nothing_but_the_workers_variables(key):
    with pytest.raises(QsmrError, match=f"line 2 sets {key}"):
        parse_env(f"QSMR_CONFIG=a\n{key}=/tmp/evil\n")


# Archives


def archive(path: Path, *members: tuple[str, str, str]) -> Path:
    """A tar.gz of members: name, kind (tarfile's), and content or target of the link."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = getattr(tarfile, kind), 0o4755
            member.size, member.linkname = (len(text), "") if kind == "REGTYPE" else (0, text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("../x", "REGTYPE", "a")],
        [("/etc/x", "REGTYPE", "a")],
        [("a/../../x", "REGTYPE", "a")],
        [("link", "LNKTYPE", "../../etc/shadow")],
        [("link", "LNKTYPE", "/etc/shadow")],
        [("dir", "SYMTYPE", "/etc"), ("dir/cron.d/x", "REGTYPE", "a")],
        [("file", "REGTYPE", "a"), ("file/x", "REGTYPE", "a")],
        [("device", "CHRTYPE", "")],
        [("pipe", "FIFOTYPE", "")],
    ],
)
def test_archive_of_code_cannot_write_elsewhere(tmp_path, members):
    source = archive(tmp_path / "qsmr.tar.gz", *members)
    with pytest.raises(QsmrError, match=r"qsmr.tar.gz cannot go into the image"):
        write_layer(source, tmp_path / "layer.tar", "qsmr")


def test_code_in_the_image_has_no_set_uid_bits(tmp_path):
    write_layer(archive(tmp_path / "qsmr.tar.gz", ("run", "REGTYPE", "a")), tmp_path / "layer.tar", "qsmr")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert {member.mode for member in tar} == {0o755}


@pytest.mark.parametrize("target", ["layer.tar", "../../../../etc/passwd", "/etc/passwd", "../loop/layer.tar", "."])
def test_image_archive_whose_links_lead_elsewhere_or_nowhere_is_refused(tmp_path, target):
    config = image_config([b"x"])
    name = f"{image_id(config)[7:]}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["x:1"], "Layers": ["loop/layer.tar"]}]).encode()
    path = tmp_path / "docker_image"
    with tarfile.open(path, "w") as tar:
        for file_name, content in ((name, config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(file_name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("loop/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)
    with pytest.raises(QsmrError, match="is not what docker save writes"):
        read_image(path)


# Images that are not what was built


def test_tampered_docker_image_is_not_sent(made):
    original = (made / "docker_image").read_bytes()
    changes = (original.replace(b"qsmr/f1", b"qsmr/g1"), original.replace(b"amd64", b"arm64"), original[:-2000])
    for second, change in enumerate(changes):
        (made / "docker_image").write_bytes(change)
        os.utime(made / "docker_image", (second, second))
        with pytest.raises(QsmrError, match="docker_image"):
            plan(made, {**BARE, "memory": 0, "room": room()})


def room() -> dict:
    return {"staging": {"path": "/", "free": 10**12}, "docker": {"path": "/", "free": 10**12}, "one_disk": True}


@pytest.mark.parametrize("damage", [b"", b"rubbish", gzip.compress(layer(files(3)))])
def test_image_that_was_changed_on_the_way_is_refused_on_the_host(made, tmp_path, damage):
    host = HostDouble()
    target = Target(host.docker, tmp_path / "host")
    order = target.send(made).order
    victim = target.place.incoming / order["layers"][1]["blob"]
    victim.write_bytes(damage)
    with pytest.raises(QsmrError, match="damaged"):
        target.image(made).make(order)
    assert host.images == {}


def test_registry_gets_no_image_whose_configuration_was_changed(made, tmp_path):
    """The layers and the label may be those that were built, and the command another one."""
    wanted = Wanted.from_snapshot(json.loads((made / "snapshot.json").read_text()))
    write_archive(made / "docker_image", wanted.name, LAYERS, {"org.qsmr.fleet.inputs": wanted.inputs, "x": "evil"})
    host = HostDouble(loads={wanted.name: image("sha256:evil", wanted.diff_ids, wanted.inputs)})
    with pytest.raises(QsmrError, match="is not the snapshot's image"):
        Registry(host.docker, "registry.example.org").push(wanted, made / "docker_image")
    assert host.changes == []


# Scan lists


def test_scan_list_without_end_needs_no_memory(tmp_path):
    (tmp_path / "list").symlink_to("/dev/zero")
    with pytest.raises(QsmrError, match="line 1 is longer than 4096 bytes: that is no list of scan ids"):
        list(read_scans(tmp_path / "list", [1]))


# What hosts answer


def ansible(tmp_path, playbook, **settings) -> subprocess.CompletedProcess[str]:
    """A playbook on this machine as the only lab host."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"children": {"workers": {"hosts": {"h1": local}}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", "-e", json.dumps(settings)]
        + [playbook],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=90,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_COLOR": "1", "LC_ALL": "C.UTF-8",
             "ANSIBLE_CALLBACK_PLUGINS": "plugins/callback"},
    )  # fmt: skip


def test_summary_cannot_command_the_terminal(tmp_path):
    said = "\x1b[2J\x1b]0;title\x07{{ lookup('pipe', 'touch trace') }}"
    (tmp_path / "said").write_text(said)
    tasks = [
        {"command": {"argv": ["cat", str(tmp_path / "said")]}, "register": "answer"},
        {"set_stats": {"data": {"qsmr_summary": ["{{ answer.stdout }}"]}}},
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "h1", "gather_facts": False, "tasks": tasks}]))
    (tmp_path / "group_vars").symlink_to(REPOSITORY / "playbooks/group_vars")  # no playbook runs without
    done = ansible(tmp_path, tmp_path / "play.yml")
    assert done.stdout.endswith("?[2J?]0;title?{{ lookup('pipe', 'touch trace') }}\n")
    assert "\x1b" not in done.stdout
    assert not (REPOSITORY / "trace").exists()


def test_project_that_is_a_path_removes_nothing(tmp_path):
    victim = tmp_path / "opt/victim/file"
    victim.parent.mkdir(parents=True)
    victim.touch()
    places = {"qsmr_host_dir": str(tmp_path / "opt/qsmr"), "qsmr_state_dir": str(tmp_path / "state")}
    done = ansible(tmp_path, "playbooks/stop.yml", qsmr_project="../victim", qsmr_remove=True, **places)
    assert done.returncode
    assert "roject name must only contain ascii letters and digits" in done.stdout + done.stderr
    assert victim.exists()
    assert not (tmp_path / "state").exists()


# A directory on the hosts with blanks and quotes in its name


def test_push_to_a_directory_whose_name_a_shell_would_take_apart(made, tmp_path):
    staging = tmp_path / 'it\'s "here" $(touch trace) `touch trace` ; touch trace #' / "demo" / "incoming"
    blobs = plan(made, {**BARE, "memory": 0, "room": room()}).blobs
    job = Job(blobs, str(staging), lambda: Start(agent_command(sys.executable)))
    [outcome] = distribute({"h": job}, relay=False).values()
    assert outcome.fault == ""
    assert sorted(path.name for path in staging.iterdir()) == sorted(blob.sha256 for blob in blobs)
    assert not list(tmp_path.rglob("trace"))


# Modes


def write_host(directory: Path, made: Path) -> None:
    """All that a host writes for a release."""
    target = Target(HostDouble().docker, directory / "opt" / "qsmr")
    staging = str(target.place.incoming)
    blobs = plan(made, {**BARE, "memory": 0, "room": room()}).blobs
    distribute({"h": Job(blobs, staging, lambda: Start(agent_command(sys.executable)))}, relay=False)
    target.image(made).make(target.send(made).order)
    target.place.write("r1", {"worker.env": "QSMR_CONFIG=a\n", "docker-compose.yml": "x", "snapshot.json": "{}"})
    target.place.switch("r1")
    Lock(target.place.root / "lock").take({"id": "1", "who": "a", "since": "", "what": "", "expires": 2e9}, 1e9)


def write_control(directory: Path, _made: Path) -> None:
    """What modules and action plugins keep on the control node, which limit their umask first."""
    limit_umask()
    Audit(directory / "state/demo").add("run", "begin")
    PushProgress(directory / "state/demo/push.json", "demo").end()
    Ledger(directory / "state/demo").close()


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("write", [write_host, write_control])
def test_files_are_open_to_nobody_else_whatever_the_umask(made, tmp_path, umask, write):
    former = os.umask(umask)
    try:
        write(tmp_path / "new", made)
    finally:
        os.umask(former)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert len(modes) > 3
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & 0o022} == {}
    assert {oct(mode) for path, mode in modes.items() if path.name == "worker.env"} <= {"0o600"}
    private = [path for path in modes if path.is_dir() and "qsmr/demo" in str(path)]
    assert not [path for path in private if modes[path] & 0o007]


# Our own habits


def test_host_keys_are_checked_everywhere():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    words = re.compile(
        r"StrictHostKeyChecking[ =]+(no|off|accept)|UserKnownHostsFile[ =]+/dev/null|host_key_checking *[=:] *[Ff]alse"
    )
    careless = [name for name in listed.split() if not name.startswith("tests/") and found_in(name, words)]
    assert careless == []
    assert "host_key_checking = true" in (REPOSITORY / "ansible.cfg").read_text()


def found_in(name: str, words: re.Pattern[str]) -> bool:
    path = REPOSITORY / name
    return path.is_file() and bool(words.search(path.read_text(errors="replace")))


def commands_of(tasks: list[dict]):
    """Module and text of each task that runs a command which is not a list of words."""
    for task in tasks or []:
        for block in ("block", "rescue", "always"):
            yield from commands_of(task.get(block, []))
        for module in ("command", "shell", "raw", "script"):
            given = task.get(f"ansible.builtin.{module}", "")
            yield module, given if isinstance(given, str) else given.get("cmd", "")


def test_no_variable_can_add_words_to_a_command():
    """Shells get none; where a command is one text, what is filled in is quoted, or is our own word."""
    ours = {
        "__container_fleet_kind",
        "__base_image_archived",
        "'--all' if __container_fleet_kind == 'container' else ''",
    }
    for path in (*REPOSITORY.glob("roles/*/tasks/*.yml"), *REPOSITORY.glob("playbooks/*.yml")):
        plays = yaml.safe_load(path.read_text())
        tasks = [task for play in plays for task in play.get("tasks", [])] if path.parent.name == "playbooks" else plays
        for module, text in commands_of(tasks):
            filled = re.findall(r"{{ *(.*?) *}}", re.sub(r"{% raw %}.*?{% endraw %}", "", text))
            assert not (module in ("shell", "raw") and filled), path
            assert not [name for name in filled if name not in ours and not name.endswith("| quote")], path


def test_ruff_looks_for_what_bandit_would():
    """Its rules S are flake8-bandit's: on for all Python here, and none of them off for a whole folder but in tests."""
    root = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in root["select"]
    off = {name for name, rules in root["per-file-ignores"].items() if any(rule.startswith("S") for rule in rules)}
    assert off == {"tests/**"}
    for nested in (REPOSITORY / "images").rglob("ruff.toml"):
        assert tomllib.loads(nested.read_text())["extend"] == "../../pyproject.toml"
    assert "ruff check ." in (REPOSITORY / "Makefile").read_text()


def test_what_pip_installs_is_pinned_by_its_digest():
    for lock in (REPOSITORY / "requirements").glob("*.lock"):
        lines = [line for line in lock.read_text().splitlines() if line and not line.lstrip().startswith("#")]
        pins = [number for number, line in enumerate(lines) if not line.startswith(" ")]
        assert len(pins) > 10
        for number in pins:
            assert re.match(r"[a-z0-9][\w.-]*==\S+", lines[number]), lines[number]
            assert lines[number + 1].strip().startswith("--hash=sha256:"), lines[number]
    installs = re.findall(r"pip install.*", (REPOSITORY / "Makefile").read_text())
    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_every_test_that_the_threat_model_names_exists():
    text = (REPOSITORY / "docs/security.md").read_text()
    named = re.findall(r"`(test_\w+)`", text)
    there = {
        name
        for path in (REPOSITORY / "tests").rglob("*.py")
        for name in [path.stem, *re.findall(r"^def (test_\w+)", path.read_text(), re.M)]
    }
    assert sorted(set(named) - there) == []
    model = text[text.index("## What an attacker can do") :]
    rows = [line for line in model.splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith("| What | What stops it | Proved by |")]
    assert len(threats) > 30
    assert [row for row in threats if "`test_" not in row] == []
