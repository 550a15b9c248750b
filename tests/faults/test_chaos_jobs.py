"""A few of the seeded runs of ``make chaos-jobs``, so that the usual tests notice when they would fail."""

import subprocess
import sys
from pathlib import Path


def test_jobs_get_through_faults_and_kills():
    command = [
        sys.executable,
        Path(__file__).with_name("chaos_jobs.py"),
        "--runs",
        "8",
        "--seed",
        "1",
        "--minutes",
        "5",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
