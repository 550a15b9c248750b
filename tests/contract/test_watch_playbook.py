"""watch.yml as a user and a program see it: the bar, Ctrl-C, the exit code."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")


@pytest.fixture
def command(tmp_path, job_service):
    """A watch of five jobs that nobody works on."""
    jobs = [{"id": f"1:{n}", "source_url": "http://odin/"} for n in range(5)]
    answer = job_service.login().post("/v4/watched/jobs", json=jobs)
    assert answer.status_code == 201
    config = tmp_path / "lab.conf"
    config.write_text(
        f"ODIN_API_ROOT=http://127.0.0.1:1/rest_api\nODIN_SECRET=0123456789abcdef\nJOB_API_ROOT={job_service.root}\n"
        f"JOB_API_USERNAME={job_service.username}\nJOB_API_PASSWORD={job_service.password}\n"
    )
    config.chmod(0o600)
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(
        "control: {hosts: {localhost: {ansible_connection: local, "
        "ansible_python_interpreter: '{{ ansible_playbook_python }}'}}}\n"
    )
    settings = {"qsmr_project": "watched", "qsmr_config_file": config, "qsmr_state_dir": tmp_path / "state"}
    extra = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    return [PLAYBOOK, "-i", str(inventory), "playbooks/watch.yml", *extra]


def test_stall_is_told_in_words_and_in_the_exit_code(command):
    run = subprocess.run(
        [*command, "-e", "watch_stall_timeout=3"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 13, run.stdout + run.stderr
    assert "result key" not in run.stdout + run.stderr
    assert "0 of 5 jobs finished" in run.stdout
    assert "No worker has claimed a job" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_interrupted_wait_says_that_all_goes_on(command):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    given = [
        "-e",
        "qsmr_watch_share=0.9",
        "-e",
        '{"qsmr_config": {"JOB_API_USERNAME": "hidden"}}',
        "-eodin_secret=hidden",
    ]
    process = subprocess.Popen(
        [*command, *given], cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    screen, end, pressed = "", time.monotonic() + 120, False
    while time.monotonic() < end:
        if select.select([ours], [], [], 1)[0]:
            try:
                screen += os.read(ours, 65536).decode()
            except OSError:  # how a terminal says that its other side is gone
                break
        if not pressed and "[....................] watched: 0 of 5 jobs" in screen:
            os.write(ours, b"\x03")
            pressed = True
    os.close(ours)
    assert process.wait(timeout=30) == 99, screen
    last = screen.splitlines()[-1]
    assert "workers and jobs go on. To wait again: ansible-playbook -i " in last
    again = shlex.split(last.partition("To wait again: ")[2])
    assert again == [Path(command[0]).name, *command[1:], "-e", "qsmr_watch_share=0.9", "-e", "...", "-e..."]
    assert "hidden" not in last
