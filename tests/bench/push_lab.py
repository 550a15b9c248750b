"""Hosts behind links of a known speed, as containers on this machine: what the push benchmark measures on."""

from __future__ import annotations

import ipaddress
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qsmr.capabilities import capabilities_of

REPOSITORY = Path(__file__).parents[2]
IMAGE = "qsmr-fleet/host-debian13"
NAME = "qsmr-bench"
NET = "10.151.7"
BURST = "128kb"


def run(*command: str | Path, **keywords) -> str:
    """A command's standard output; its words are shown if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **keywords)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Host:
    """A container with sshd, and with a Docker engine if it is to load images. Rates in Mbit/s, both ways."""

    def __init__(self, lab: Lab, number: int, engine: bool) -> None:
        self.lab = lab
        self.name = f"{NAME}-{number}"
        self.address = f"{NET}.{20 + number}"
        keys = f"{lab.directory}/keys:/run/keys:ro"
        options = ["--name", self.name, "--network", NAME, "--ip", self.address, "--volume", keys]
        if engine:
            rights = [f"--cap-add={name}" for name in capabilities_of(Path("/proc/self/status").read_text())]
            rights += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
            options += [*rights, "--env", "HOST_USER=root", "--env", "HOST_SUDO=false", IMAGE]
        else:
            start = (
                "install -d /run/sshd; install -m 0600 /run/keys/ssh_host_ed25519_key /etc/ssh/;"
                "install -m 0644 /run/keys/authorized_keys /etc/ssh/; exec /usr/sbin/sshd -D -e"
            )
            options += ["--cap-add", "NET_ADMIN", "--entrypoint", "sh", IMAGE, "-c", start]
        run("docker", "run", "--detach", *options)
        index = run("docker", "exec", self.name, "cat", "/sys/class/net/eth0/iflink").strip()
        links = [path for path in Path("/sys/class/net").iterdir() if (path / "ifindex").read_text().strip() == index]
        self.veth = links[0].name

    def shape(self, rate: float) -> None:
        """Set the link's speed."""
        limit = ["tbf", "rate", f"{rate}mbit", "burst", BURST, "latency", "100ms"]
        run("tc", "qdisc", "replace", "dev", self.veth, "root", *limit)
        run("docker", "exec", self.name, "tc", "qdisc", "replace", "dev", "eth0", "root", *limit)

    def switch(self, state: str) -> None:
        """Have the link up or down."""
        run("docker", "exec", self.name, "ip", "link", "set", "eth0", state)

    @property
    def received(self) -> int:
        """Bytes that have come in by the link."""
        return int(run("docker", "exec", self.name, "cat", "/sys/class/net/eth0/statistics/rx_bytes"))

    def ssh(self, command: str, **keywords) -> str:
        return run(*self.lab.ssh, f"root@{self.address}", command, **keywords)

    def wait(self, command: str) -> None:
        """Until a command succeeds there."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ssh(command)
                return
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


class Lab:
    """A network of such hosts, gone when the block ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts: list[Host] = []
        self.key = directory / "id_ed25519"
        self.known_hosts = directory / "known_hosts"
        options = ["-F", "none", "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "IdentitiesOnly=yes"]
        self.options = [*options, "-i", str(self.key), "-o", "BatchMode=yes"]
        self.ssh = ["ssh", *self.options]

    def __enter__(self) -> Lab:
        if not run("docker", "image", "ls", "--quiet", IMAGE):
            print(f"Building the image {IMAGE} (some minutes, once)", file=sys.stderr, flush=True)
            playbook = Path(sys.executable).with_name("ansible-playbook")
            run(playbook, "playbooks/demo_fleet.yml", "--limit", "control", cwd=REPOSITORY)
        self.remove()
        keys = self.directory / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        for path in (self.key, keys / "ssh_host_ed25519_key"):
            path.unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        (keys / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        host_key = " ".join((keys / "ssh_host_ed25519_key.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"{NET}.* {host_key}\n")
        subnet = str(ipaddress.ip_network(f"{NET}.0/24"))
        run("docker", "network", "create", "--subnet", subnet, "--opt", f"com.docker.network.bridge.name={NAME}", NAME)
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()

    def remove(self) -> None:
        names = run("docker", "ps", "--all", "--quiet", "--filter", f"network={NAME}").split()
        if names:
            run("docker", "rm", "--force", "--volumes", *names)
        if NAME in run("docker", "network", "ls", "--format", "{{.Name}}").split():
            run("docker", "network", "rm", NAME)

    def add(self, count: int, rate: float, engine: bool = False) -> Sequence[Host]:
        hosts = [Host(self, len(self.hosts) + number, engine) for number in range(1, count + 1)]
        self.hosts += hosts
        for host in hosts:
            host.wait("docker info" if engine else "true")
            host.shape(rate)
        return hosts

    def limit_uplink(self, rate: float) -> None:
        """Set the speed of the control node's own link: what goes from here to all hosts together."""
        run(
            "tc",
            "qdisc",
            "replace",
            "dev",
            NAME,
            "root",
            "tbf",
            "rate",
            f"{rate}mbit",
            "burst",
            BURST,
            "latency",
            "100ms",
        )

    @property
    def sent(self) -> int:
        """Bytes that have left the control node; what hosts send each other does not pass here."""
        return int(Path(f"/sys/class/net/{NAME}/statistics/tx_bytes").read_text())
