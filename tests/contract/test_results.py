"""Results against kill -9: whatever the moment, the next run ends with all of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from level2_service_double import FIRST, STEP, services
from qsmr.level2set import open_results
from qsmr.resultindex import opened
from qsmr.results import document_path

COUNT = 400
RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from qsmr.jobapi import JobApi
from qsmr.odinapi import OdinApi
from qsmr.resultindex import opened
from qsmr.results import CONNECTIONS, bring_up_to_date
root, directory = sys.argv[1], Path(sys.argv[2])
print("up", flush=True)
with JobApi(root) as jobs, opened(directory) as index:
    bring_up_to_date(jobs, OdinApi(root, CONNECTIONS), "demo", "demo", index, directory, directory)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_results_survive_kill_at_any_moment(tmp_path, seed):
    moment = random.Random(seed)
    code = str(Path(__file__).parents[2] / "plugins/module_utils")
    with services(COUNT, 0.005) as root:
        command = [sys.executable, "-c", RUN, root, str(tmp_path), code]
        killed = 0
        for _attempt in range(4):
            run = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
            assert run.stdout
            run.stdout.readline()
            time.sleep(moment.uniform(0.0, 0.7))
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
            killed += run.returncode == -signal.SIGKILL
        assert killed
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
        with opened(tmp_path) as index:
            assert index.outcomes() == {"retrieved": COUNT}
    scans = [FIRST + STEP * number for number in range(COUNT)]
    with open_results(tmp_path) as level2:
        assert sorted(level2.scan_id.values.tolist()) == scans
        vmr = json.loads(document_path(tmp_path, (1, FIRST)).read_text())["L2"][0]["VMR"]
        np.testing.assert_allclose(level2.vmr, np.tile(np.float32(vmr), (COUNT, 1)), rtol=1e-6)
    for scan in scans:
        assert json.loads(document_path(tmp_path, (1, scan)).read_text())["L2i"]["ScanID"] == scan
    assert sum(1 for _row in (tmp_path / "summary.csv").open()) == COUNT + 1
    assert not list(tmp_path.rglob(".*.part"))
