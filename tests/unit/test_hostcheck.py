"""What keeps a host's workers from working, found before they are switched, and told with its cause."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from host_double import HostDouble, image, snapshot
from qsmr import hostcheck, hostimage, servicecheck
from qsmr.dockercli import Docker, Result
from qsmr.hostcheck import is_loopback, limit_faults, service_faults, session_fault, unfit
from qsmr.hostfit import Limits
from qsmr.hostimage import Wanted, image_root
from qsmr.hostprobe import proxies_of
from qsmr.hoststate import Desired
from qsmr.hostworker import WorkerHost
from qsmr.release import Releases
from qsmr.servicecheck import proxy_for

BRIDGED = "services: {uworker: {network_mode: bridge}}\n"
NETWORKED = "services: {uworker: {}}\n"


class Service(BaseHTTPRequestHandler):
    """A job service and an Odin API; with a status of its own, a proxy that lets nobody through."""

    status = 200

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        body = json.dumps({"token": "t"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(status=200):
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.status, server.asked = status, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def service(monkeypatch):
    """It is on 127.0.0.1, as all tests' are, and counts as a machine of the lab all the same."""
    monkeypatch.setattr(hostcheck, "is_loopback", lambda root: False)
    with serving() as server:
        yield server


def root_of(server):
    return f"http://127.0.0.1:{server.server_port}/rest_api"


def env_of(root):
    return {"UWORKER_JOB_API_ROOT": root, "UWORKER_JOB_API_USERNAME": "ana", "UWORKER_JOB_API_PASSWORD": "pässword"}


def seen(service="job service", root="http://jobs/rest_api", **answer):
    """What a container says that gets this answer."""
    default = {"root": root, "fits": False, "status": 0, "said": "", "why": "way", "proxy": "", "direct": False}
    return {"services": {service: {**default, **answer}}, "mtu": 1500, "nameservers": ["8.8.8.8"]}


class Lab:
    """A host on which release r1 can run, and r2 is wanted."""

    def __init__(self, tmp_path: Path, root: str = "") -> None:
        self.double = HostDouble()
        self.releases = Releases(tmp_path, "demo")
        self.host = WorkerHost(self.double.docker, self.releases, "qsmr-demo", 60)
        self.root = root

    def desired(self, release: str = "r2", compose: str = BRIDGED) -> Desired:
        env = "".join(f"{key}={value}\n" for key, value in {**env_of(self.root), "QSMR_SNAPSHOT_ID": release}.items())
        manifest = snapshot(release)
        files = {"docker-compose.yml": compose, "worker.env": env, "snapshot.json": json.dumps(manifest)}
        return Desired("qsmr-demo", release, Wanted.from_snapshot(manifest), files, "host1", 1, 60)

    def has(self, *releases: str) -> None:
        self.double.images |= {f"qsmr_snapshot_demo:{name}": image(f"sha256:{name}") for name in releases}

    def runs(self, release: str) -> None:
        self.has(release)
        self.releases.write(release, self.desired(release).files)
        self.releases.switch(release)

    def check(self, desired: Desired | None = None, **how: bool) -> tuple[list[str], bool]:
        desired = desired or self.desired()
        return unfit(self.host, snapshot(desired.snapshot_id), desired, self.host.find(desired), "", **how)

    @property
    def containers(self) -> list[str]:
        """The releases whose containers asked."""
        return [line for line in self.double.commands if " run --detach" in line]


@pytest.fixture
def lab(tmp_path, service):
    return Lab(tmp_path, root_of(service))


def test_container_of_the_image_is_asked_once_it_is_there_and_once_in_a_run(lab):
    lab.has("r2")
    assert lab.check() == ([], True)
    assert len(lab.containers) == 1
    assert lab.check(asked=True) == ([], True)
    assert len(lab.containers) == 1


def test_nothing_stays_of_the_container_that_asks(lab, tmp_path):
    lab.has("r2")
    lab.check()
    assert list(tmp_path.iterdir()) == []
    name = lab.containers[0].partition(" --name ")[2].split()[0]
    assert f"docker rm --force {name}" in lab.double.commands
    assert lab.double.changes == []


def test_account_of_the_job_service_is_on_no_command_line(lab):
    lab.has("r2")
    lab.check()
    assert not [line for line in lab.double.commands if "pässword" in line]


def test_host_that_can_use_the_services_is_not_fit_when_its_containers_cannot(lab):
    lab.has("r2")
    lab.double.seen = seen(root=lab.root, said="timed out", why="time")
    [fault], asked = lab.check()
    assert "cannot be reached (timed out) from a container, and can be used from this host" in fault
    assert "firewall" in fault
    assert asked


def test_before_anything_is_pushed_the_release_that_runs_is_asked(lab):
    lab.runs("r1")
    lab.double.seen = seen(root=lab.root, said="no route", why="way")
    [fault], asked = lab.check()
    assert "from a container" in fault
    assert not asked  # the image that is wanted has to be, when it is there
    lab.double.seen = seen(root=lab.root, why="certificate")
    assert lab.check() == ([], False)  # the image to come may know more certificates


def test_host_without_any_image_is_asked_itself_with_the_proxies_of_its_containers(lab, tmp_path, monkeypatch):
    with serving(status=403) as proxy:
        configured = {"proxies": {"default": {"httpProxy": f"http://ana:secret@127.0.0.1:{proxy.server_port}"}}}
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker/config.json").write_text(json.dumps(configured))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        [fault], _asked = lab.check()
        assert f"answers 403 through the proxy 127.0.0.1:{proxy.server_port}" in fault
        assert "put 127.0.0.1 into noProxy" in fault
        assert "secret" not in fault
        configured["proxies"]["default"]["noProxy"] = "127.0.0.0/8"
        (tmp_path / "docker/config.json").write_text(json.dumps(configured))
        assert lab.check() == ([], False)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("open {file}: no such file or directory", "Compose does not see files in {place}: one from snap sees home"),
        ("ERROR: .FileNotFoundError: [Errno 2] No such file or directory: '{file}'", "Compose does not see files"),
        ("stat {file}: permission denied", "Compose does not see files"),
        ("docker-compose.yml is invalid: unsupported", "Compose cannot start a worker: docker-compose.yml is invalid"),
    ],
)
def test_compose_has_to_read_a_file_where_releases_lie_before_anything_is_pushed(lab, tmp_path, said, fault):
    (tmp_path / "deep").mkdir()
    lab.releases = Releases(tmp_path / "deep", "demo")
    lab.host.releases = lab.releases
    run = lab.double.run

    def blind(argv, env, timeout):
        if "config" not in argv:
            return run(argv, env, timeout)
        file = argv[argv.index("--file") + 1]
        assert Path(file).read_text() == BRIDGED
        assert file.startswith(str(tmp_path / "deep"))
        return Result(1, "", said.format(file=file))

    lab.host.docker = Docker(blind, {"PATH": "/bin"})
    [found], _asked = lab.check()
    assert found.startswith(fault.format(place=tmp_path / "deep"))
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("could not find an available, non-overlapping IPv4 address pool among the defaults", "no address range left"),
        ("Error response from daemon: all predefined address pools have been fully subnetted", "no address range left"),
        ("ERROR: could not find free subnet from subnet pools", "no address range left"),
        ("Error response from daemon: network bridge not found", "has no bridge"),
        ("ERROR: pull access denied for qsmr_snapshot_demo, repository does not exist", "asks another engine"),
        ('exec: "python3": executable file not found in $PATH', "has no python3"),
        ("something that nobody knows", "Compose cannot start a worker: something that nobody knows"),
    ],
)
def test_cause_for_which_no_worker_can_start_is_named(lab, said, fault):
    lab.has("r2")
    lab.double.fails = {" run --detach": said}
    [found], asked = lab.check()
    assert fault in found
    assert said in found
    assert not asked


def test_cause_for_which_a_container_that_has_started_cannot_ask_is_named(lab):
    """Docker before 20.10.10 denies threads to images of newer Debians."""
    lab.has("r2")
    run = lab.double.run

    def no_threads(argv, env, timeout):
        if argv[1] == "logs":
            return Result(0, "", "Traceback (most recent call last):\nRuntimeError: can't start new thread\n")
        return run(argv, env, timeout)

    lab.host.docker = Docker(no_threads, {"PATH": "/bin"})
    [found], asked = lab.check()
    assert "too old for the image" in found
    assert not asked
    assert [line for line in lab.double.commands if line.startswith("docker rm --force qsmr-demo-check-")]


def test_network_that_an_older_release_needs_to_ask_is_gone_again_and_one_that_is_used_stays(lab):
    lab.has("r2")
    compose = lab.double.compose

    def with_network(line, env):
        if " run " in line:
            lab.double.networks = lab.double.networks or ["n1"]
        return compose(line, env)

    lab.double.compose = with_network
    assert lab.check(lab.desired(compose=NETWORKED))[0] == []
    assert lab.double.networks == []
    lab.double.networks = ["used"]
    assert lab.check(lab.desired(compose=NETWORKED))[0] == []
    assert lab.double.networks == ["used"]


def test_host_that_shall_run_no_worker_starts_no_container(lab):
    lab.has("r2")
    assert lab.check(replace(lab.desired(), count=0)) == ([], False)
    assert lab.containers == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            {"said": "Name or service not known", "why": "name"},
            "has no address in containers, which ask the name servers 8.8.8.8; /etc/hosts and a resolver on 127.0.0.1",
        ),
        ({"said": "self-signed", "why": "certificate"}, "that the workers' image does not trust.*set qsmr_ca_file"),
        ({"said": "timed out", "why": "time"}, r"packets of 1500 bytes, where this host's are 1400 \(mtu"),
        ({"status": 503, "proxy": "p:3128", "direct": True}, "answers 503 through the proxy p:3128.*noProxy"),
        ({"status": 401}, "refuses the account: check JOB_API_USERNAME"),
    ],
)
def test_fault_has_the_cause_that_a_container_shows(service, monkeypatch, answer, says):
    monkeypatch.setattr(hostcheck, "largest_packet", lambda: 1400)
    view = seen(root=root_of(service), **answer)
    [fault] = service_faults(env_of(root_of(service)), "", view, final=True)
    assert re.search(says, fault), fault


def test_service_that_nobody_can_reach_is_no_matter_of_containers(monkeypatch):
    monkeypatch.setattr(hostcheck, "is_loopback", lambda root: False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{closed.getsockname()[1]}"
        view = seen(root=root, said="Connection refused")
        faults = service_faults(env_of(root), "", view, final=True)
    assert faults == [
        f"The job service {root} cannot be reached (Connection refused): "
        "check JOB_API_ROOT, the network and the service"
    ]


@pytest.mark.parametrize(
    ("root", "loopback"),
    [
        ("http://127.0.0.1:5000/rest_api", True),
        ("http://127.0.1.1/rest_api", True),
        ("http://localhost/rest_api", True),
        ("http://LOCALHOST:1/rest_api", True),
        ("http://jobs.localhost/rest_api", True),
        ("http://[::1]:5000/rest_api", True),
        ("http://127.1:5000/rest_api", True),
        ("http://2130706433/rest_api", True),
        ("http://0.0.0.0:5000/rest_api", True),
        ("http://10.0.0.1/rest_api", False),
        ("http://localhost.example.org/rest_api", False),
        ("", False),
    ],
)
def test_root_that_is_the_worker_itself_in_its_container(root, loopback):
    assert is_loopback(root) == loopback


@pytest.mark.parametrize("key", ["JOB_API_ROOT", "ODIN_API_ROOT"])
def test_service_on_loopback_is_refused_though_this_host_can_use_it(key):
    with serving() as server:
        root = root_of(server)
        env, odin = (env_of(root), "") if key == "JOB_API_ROOT" else ({}, root)
        assert service_faults(env, odin) == [
            f"{key} is {root}, which is the worker itself in its container: "
            "give a name or address that all hosts can use"
        ]


def test_program_in_the_container_tells_all_and_no_secret(service):
    """As Python runs it there: by its text alone."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        odin = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-IS", "-c", Path(servicecheck.__file__).read_text(), odin],
            env=env_of(root_of(service)),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith(servicecheck.MARK)
    found = json.loads(done.stdout[len(servicecheck.MARK) :])
    assert found["services"]["job service"]["fits"]
    assert found["services"]["Odin API"] == {
        "root": odin,
        "fits": False,
        "status": 0,
        "said": "Connection refused",
        "why": "way",
        "proxy": "",
        "direct": False,
    }
    [(path, authorization)] = service.asked
    assert path == "/rest_api/token"
    assert authorization == "Basic YW5hOnDDpHNzd29yZA=="
    assert "ssword" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://jobs.lab/x", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://jobs.lab/x", {"HTTP_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://p:1"),
        ("https://jobs.lab/x", {"http_proxy": "http://p:1"}, ""),
        ("https://jobs.lab/x", {"all_proxy": "http://p:1"}, "http://p:1"),
        ("http://jobs.lab/x", {"http_proxy": "http://p:1", "no_proxy": "other, .lab"}, ""),
        ("http://jobs.lab/x", {"http_proxy": "http://p:1", "NO_PROXY": "jobs.lab"}, ""),
        ("http://jobs.lab:5000/x", {"http_proxy": "http://p:1", "no_proxy": "jobs.lab:5000"}, ""),
        ("http://myjobs.lab/x", {"http_proxy": "http://p:1", "no_proxy": "jobs.lab"}, "http://p:1"),
        ("http://10.1.2.3/x", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, ""),
        ("http://11.1.2.3/x", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8,,x/y"}, "http://p:1"),
        ("http://jobs.lab/x", {"http_proxy": "http://p:1", "no_proxy": "*"}, ""),
    ],
)
def test_proxy_is_the_one_that_a_worker_would_use(url, environ, proxy):
    assert proxy_for(url, environ) == proxy


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"proxies": 1}', '{"proxies": {"default": null}}', '{"auths": {}}']
)
def test_docker_settings_without_proxies_give_none(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert proxies_of({"DOCKER_CONFIG": str(tmp_path)}) == {}


@pytest.mark.parametrize(
    ("info", "limits", "says"),
    [
        ({"NCPU": 2}, ("2", ""), []),
        ({"NCPU": 2}, ("2.5", ""), ["qsmr_worker_cpus is 2.5, and this host has 2"]),
        ({"NCPU": 2, "Driver": "podman"}, ("4", ""), []),
        ({"CpuCfsQuota": False, "MemoryLimit": False}, ("1", "1g"), ["cannot limit processors", "cannot limit memory"]),
        ({"CpuCfsQuota": False, "MemoryLimit": False}, ("", ""), []),
        ({}, ("4", "1g"), []),
    ],
)
def test_limits_that_the_engine_cannot_keep(info, limits, says):
    found = limit_faults(info, Limits.checked(*limits))
    assert len(found) == len(says)
    assert all(words in line for words, line in zip(says, found, strict=True))


@pytest.mark.parametrize(
    ("info", "lingers", "fault"),
    [
        ({"Rootless": True}, False, True),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, False, True),
        ({"Rootless": True}, True, False),
        ({"Rootless": False, "SecurityOptions": ["name=seccomp"]}, False, False),
    ],
)
def test_engine_of_a_user_who_logs_out(tmp_path, monkeypatch, info, lingers, fault):
    monkeypatch.setattr(hostcheck, "SYSTEMD", tmp_path)
    monkeypatch.setattr(hostcheck, "LINGER", tmp_path)
    if lingers:
        (tmp_path / "root").touch()
    monkeypatch.setattr(hostcheck.pwd, "getpwuid", lambda uid: type("Entry", (), {"pw_name": "root"}))
    assert ("loginctl enable-linger root" in session_fault(info)) == fault


CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]


@pytest.mark.parametrize(
    ("info", "config", "root"),
    [
        ({}, None, "/data/docker"),
        ({"DriverStatus": CONTAINERD, "Containerd": {"Address": "/run/containerd/containerd.sock"}}, None, "there"),
        (
            {"DriverStatus": CONTAINERD, "Containerd": {"Address": "/run/containerd/containerd.sock"}},
            'version = 2\nroot = "/data/images"\nstate = "/run/x"\n',
            "/data/images",
        ),
        ({"DriverStatus": CONTAINERD}, None, "there"),
        (
            {"DriverStatus": CONTAINERD, "Containerd": {"Address": "/run/user/1/docker/containerd/containerd.sock"}},
            None,
            "/data/docker/containerd/daemon",
        ),
    ],
)
def test_images_are_where_the_engine_keeps_them_and_not_where_its_other_files_are(
    tmp_path, monkeypatch, info, config, root
):
    monkeypatch.setattr(hostimage, "CONTAINERD_ROOT", tmp_path)
    monkeypatch.setattr(hostimage, "CONTAINERD_CONFIG", tmp_path / "config.toml")
    if config:
        (tmp_path / "config.toml").write_text(config)
    assert str(image_root({"DockerRootDir": "/data/docker", **info})) == root.replace("there", str(tmp_path))
