#!/usr/bin/env python3
"""Rollouts on five hosts with real jobs running all the while, and everything that can go wrong: ``make test-rollout``.

After each case: every job finished, and was counted once; the fleet is on one release known to be good; no host but the
canary ever ran the bad one; and the audit tells what the hosts show. Nothing here is random: ``--only CASE`` runs one
case again. The fleet is one of its own beside the demo's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from fault_lab import HOST, HOSTS, PROJECT, REPOSITORY, Lab, audit_flaws, docker, id_of  # noqa: E402

NAME, NET = "qsmr-faults", "10.86.0"
DIRECTORY = REPOSITORY / "build/faults"
CRASHES = '    entrypoint: ["sh", "-c", "echo no way; exit 3"]\n'
SICK_LATER = """\
    healthcheck:
      test: ["CMD-SHELL", "test $$(( $$(date +%s) - $$(stat -c %Y /proc/1) )) -lt 12"]
      interval: 1s
      retries: 2
"""
SICK_ON_HOST2 = """\
    healthcheck:
      test: ["CMD-SHELL", "test $$UWORKER_HOSTNAME != host2"]
      interval: 1s
      retries: 2
"""
# The worker splits its command at blanks, so that there are none in the script.
SLOW_JOBS = '      - UWORKER_JOB_CMD=sh -c sleep$${IFS}6;"$$0"$${IFS}"$$@" /qsmr/run_runscript.sh /opt/matlab/v90\n'
FAILS_JOBS = "      - UWORKER_JOB_CMD=sh -c sleep$${IFS}1;false\n"


class Cases:
    """One method for each thing that happens. ``good`` runs on all hosts when a case begins."""

    def __init__(self, lab: Lab, good: Path) -> None:
        self.lab, self.good = lab, good

    def all_run(self, snapshot: Path) -> None:
        for host in HOSTS:
            assert self.lab.current(host) == id_of(snapshot), (host, self.lab.current(host))
            states = self.lab.running(host)
            assert states == [f"{id_of(snapshot)} running healthy"], (host, states)
        self.audit_is_true()

    def audit_is_true(self) -> None:
        flaws = audit_flaws(self.lab.audit(), self.lab.current)
        assert not flaws, flaws

    def ran(self, bad: Path) -> list[str]:
        return [host for host, releases in self.lab.seen.items() if id_of(bad) in releases]

    def only_canary_ran(self, bad: Path) -> None:
        assert self.ran(bad) in ([], ["host1"])

    def settle(self, snapshot: Path | None = None) -> None:
        """Run again after the fault is gone: the fleet is on one release, and the audit ends with that."""
        self.lab.ok("workers.yml", qsmr_snapshot=str(snapshot or self.good))
        self.all_run(snapshot or self.good)
        # Once more, there is nothing to do.
        assert "nothing to do" in self.lab.ok("workers.yml", qsmr_snapshot=str(snapshot or self.good))

    def good_rollout(self) -> None:
        new = self.lab.variant(self.good)
        self.lab.ok("workers.yml", qsmr_snapshot=str(new))
        self.all_run(new)
        self.lab.finish_jobs()
        self.good = new
        switched = [event["host"] for event in self.lab.audit() if event.get("to") == id_of(new) and "host" in event]
        assert sorted(switched) == list(HOSTS)

    def good_rollout_with_canary_jobs(self) -> None:
        new = self.lab.variant(self.good)
        self.lab.ok("workers.yml", qsmr_snapshot=str(new), qsmr_canary_jobs=3, qsmr_canary_deadline=120)
        self.all_run(new)
        self.good = new

    def bad(
        self, change: str, failed: bool = False, host: str = "host1", ran: Sequence[str] = ("host1",), **settings: Any
    ) -> str:
        bad = self.lab.variant(self.good, change)
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(bad), **settings)
        assert code == 2, screen[-4000:]
        assert screen.rstrip().splitlines()[-1].startswith("Stopped: "), screen[-2000:]
        assert set(self.ran(bad)) <= set(ran)
        self.all_run(self.good)
        self.lab.finish_jobs(failed)
        told = [event for event in self.lab.audit() if event.get("to") == id_of(bad) and event["event"] == "host"]
        assert (told[-1]["host"], told[-1]["from"], told[-1]["ended"]) == (host, id_of(self.good), "reverted"), told
        return screen

    def crash_at_start(self) -> None:
        assert "no way" in self.bad(CRASHES)

    def sick_later(self) -> None:
        self.bad(SICK_LATER, qsmr_min_healthy_time=20)

    def failing_jobs(self) -> None:
        screen = self.bad(FAILS_JOBS, failed=True, qsmr_canary_jobs=3, qsmr_canary_deadline=120)
        assert "of its" in screen and "jobs failed" in screen

    def host_down_before(self) -> None:
        new = self.lab.variant(self.good)
        docker("stop", f"{NAME}-host3")
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        assert code != 0 and "Nothing was changed" in screen and "host3  unreachable" in screen, screen[-3000:]
        self.lab.bring_up("host3")
        self.settle()
        self.lab.finish_jobs(failed=True)

    def lose(self, host: str, when: Callable[[], bool], how: Callable[[], Any], back: Callable[[], Any]) -> None:
        new = self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new))
        self.lab.until(when, f"{host} is at its moment")
        how()
        screen = run.communicate()[0]
        back()
        assert run.returncode == 2, screen[-4000:]
        assert f"{host} " in screen.rstrip().splitlines()[-1], screen[-2000:]
        for other in HOSTS:
            if other != host:
                assert self.lab.current(other) == id_of(self.good), (other, screen[-3000:])
        self.settle()
        self.lab.finish_jobs(failed=True)

    def newest(self) -> str:
        return f"991231-{self.lab.numbers:010d}"

    def host_down_during(self) -> None:
        self.lose(
            "host2",
            lambda: self.lab.current("host2") == self.newest(),
            lambda: docker("kill", f"{NAME}-host2"),
            lambda: self.lab.bring_up("host2"),
        )

    def host_down_after(self) -> None:
        self.lose(
            "host1",
            lambda: self.lab.current("host2") == self.newest(),
            lambda: docker("kill", f"{NAME}-host1"),
            lambda: self.lab.bring_up("host1"),
        )

    def network_cut_to_control_node(self) -> None:
        self.lose(
            "host2",
            lambda: self.lab.current("host2") == self.newest(),
            lambda: docker("network", "disconnect", NAME, f"{NAME}-host2"),
            lambda: docker("network", "connect", "--ip", f"{NET}.22", NAME, f"{NAME}-host2"),
        )

    def network_cut_to_services(self) -> None:
        """Seen before anything is changed."""
        new = self.lab.variant(self.good)
        self.lab.on("host3", f"ip route add blackhole {NET}.10/32")
        try:
            code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        finally:
            self.lab.on("host3", f"ip route del blackhole {NET}.10/32")
        assert code != 0 and "host3  The job service" in screen, screen[-3000:]
        self.all_run(self.good)
        self.lab.finish_jobs()

    def network_cut_to_services_during(self) -> None:
        """No release gets healthy where the service cannot be reached: the host cannot go back either, and is told."""
        new = self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new), qsmr_healthy_deadline=30)
        self.lab.until(lambda: self.lab.current("host1") == self.newest(), "host1 is switched")
        self.lab.on("host2", f"ip route add blackhole {NET}.10/32")
        try:
            screen = run.communicate()[0]
        finally:
            self.lab.on("host2", f"ip route del blackhole {NET}.10/32")
        assert run.returncode == 2 and "host2 failed" in screen.rstrip().splitlines()[-1], screen[-3000:]
        self.settle()
        self.lab.finish_jobs(failed=True)

    def dockerd_restarted(self) -> None:
        self.shaken(lambda: self.lab.on("host2", "pkill -x dockerd"))

    def host_rebooted(self) -> None:
        self.shaken(lambda: docker("restart", f"{NAME}-host2"))

    def shaken(self, how: Callable[[], Any]) -> None:
        """The workers of the host come back by themselves; whatever the rollout makes of it is told, and true."""
        new = self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new))
        self.lab.until(lambda: self.lab.current("host2") == self.newest(), "host2 is switched")
        how()
        screen = run.communicate()[0]
        self.lab.bring_up("host2")
        line = screen.rstrip().splitlines()[-1]
        assert (run.returncode, line.startswith("Stopped: ")) in ((0, False), (2, True)), screen[-3000:]
        self.audit_is_true()
        self.settle()
        self.lab.finish_jobs(failed=True)

    def disk_full(self) -> None:
        new = self.lab.variant(self.good)
        full = f"{HOST}/releases/{id_of(new)}"
        with self.lab.full_disk("host2", full):
            code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        assert code == 2 and "No space left on device" in screen, screen[-3000:]
        self.all_run(self.good)
        self.lab.finish_jobs()

    def killed(self, when: Callable[[], bool], change: str = "", canary_only: bool = True) -> None:
        """The control node dies; the same again, with a release that is good or not, ends as if nothing had been."""
        new = self.lab.variant(self.good, change)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new))
        self.lab.until(when, "the moment for the kill")
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        time.sleep(3)
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        if change:
            assert code == 2, screen[-3000:]
            if canary_only:
                self.only_canary_ran(new)
            self.all_run(self.good)
        else:
            assert code == 0, screen[-3000:]
            self.all_run(new)
            self.good = new
        self.lab.finish_jobs()

    def killed_in_preflight(self) -> None:
        began = time.monotonic()
        self.killed(lambda: time.monotonic() - began > 2)

    def killed_at_canary(self) -> None:
        self.killed(lambda: self.lab.current("host1") == self.newest())

    def killed_at_bad_canary(self) -> None:
        self.killed(lambda: id_of(self.good) not in str(self.lab.running("host1")), CRASHES)

    def killed_in_second_stage(self) -> None:
        self.killed(lambda: self.lab.current("host2") == self.newest())

    def killed_while_taking_back(self) -> None:
        def taken_back() -> bool:
            events = [event for event in self.lab.audit() if event.get("to") == self.newest()]
            return "reverted" in [event.get("ended") for event in events]

        self.killed(taken_back, SICK_ON_HOST2, canary_only=False)

    def killed_in_last_stage(self) -> None:
        self.killed(lambda: self.lab.current("host4") == self.newest())

    def two_at_once(self, new: Path, **settings: Any) -> Any:
        return self.lab.start("workers.yml", qsmr_snapshot=str(new), qsmr_rollout_batches="2,100%", **settings)

    def one_fails_in_second_stage(self) -> None:
        """No host but that one gets past its stage, and the canary, which is healthy, is taken back."""
        self.bad(SICK_ON_HOST2, host="host2", ran=["host1", "host2"])

    def one_of_two_fails(self) -> None:
        """One may: the others go on, it is back on what ran before, and the exit code tells."""
        new = self.lab.variant(self.good, SICK_ON_HOST2)
        run = self.two_at_once(new, qsmr_max_failed_hosts=1)
        screen = run.communicate()[0]
        assert run.returncode == 2, screen[-3000:]
        assert [self.lab.current(host) for host in ("host1", "host3", "host4", "host5")] == [id_of(new)] * 4
        assert self.lab.current("host2") == id_of(self.good)
        assert "Not everywhere: " in screen.rstrip().splitlines()[-1]
        self.audit_is_true()
        self.settle()
        self.lab.finish_jobs()

    def budget_of_one(self) -> None:
        """One of two hosts of a stage is lost, and one may be: the others go on, and the exit code tells."""
        new = self.lab.variant(self.good)
        run = self.two_at_once(new, qsmr_max_failed_hosts=1)
        self.lab.until(lambda: self.lab.current("host2") == self.newest(), "host2 is switched")
        docker("kill", f"{NAME}-host2")
        screen = run.communicate()[0]
        self.lab.bring_up("host2")
        assert run.returncode == 2, screen[-3000:]
        assert [self.lab.current(host) for host in ("host1", "host3", "host4", "host5")] == [id_of(new)] * 4
        assert "Not everywhere: " in screen.rstrip().splitlines()[-1]
        self.settle(new)
        self.good = new
        self.lab.finish_jobs(failed=True)

    def whole_stage_lost(self) -> None:
        new = self.lab.variant(self.good)
        run = self.two_at_once(new, qsmr_max_failed_hosts=2)
        self.lab.until(lambda: self.lab.current("host2") == self.newest(), "host2 is switched")
        docker("kill", f"{NAME}-host1", f"{NAME}-host2")
        screen = run.communicate()[0]
        for host in ("host1", "host2"):
            self.lab.bring_up(host)
        assert run.returncode == 2, screen[-3000:]
        assert [self.lab.current(host) for host in HOSTS[2:]] == [id_of(self.good)] * 3
        self.settle()
        self.lab.finish_jobs(failed=True)

    def two_operators(self) -> None:
        """The second one is told who is at work, and nothing of his happens."""
        mine, his = self.lab.variant(self.good), self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(mine))
        self.lab.until(lambda: self.lab.current("host1") == id_of(mine), "host1 is switched")
        state = DIRECTORY / "state-of-another"
        shutil.rmtree(state, ignore_errors=True)
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(his), qsmr_state_dir=str(state))
        assert code == 2 and "somebody else is at work" in screen, screen[-3000:]
        screen = run.communicate()[0]
        assert run.returncode == 0, screen[-3000:]
        assert not [host for host, seen in self.lab.seen.items() if id_of(his) in seen]
        self.all_run(mine)
        self.good = mine
        self.lab.finish_jobs()

    def rollback(self) -> None:
        new = self.lab.variant(self.good)
        self.lab.ok("workers.yml", qsmr_snapshot=str(new), qsmr_rollout_batches="100%")
        self.lab.ok("rollback.yml")
        self.all_run(self.good)
        self.lab.finish_jobs()


HELPERS = (
    "all_run", "audit_is_true", "ran", "only_canary_ran", "settle", "bad", "lose", "newest", "shaken", "killed",
    "two_at_once",
)  # fmt: skip
CASES = [name for name in vars(Cases) if not name.startswith("_") and name not in HELPERS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=CASES, default=CASES, help="run these cases")
    parser.add_argument("--keep", action="store_true", help="keep the fleet for another run")
    options = parser.parse_args()
    lab = Lab(NAME, NET, DIRECTORY)
    failed = []
    try:
        kept = DIRECTORY / "good"
        if kept.exists():
            cases = Cases(lab, Path(kept.read_text()))
        else:
            for playbook in ("demo_fleet.yml", "services.yml", "snapshot.yml"):
                lab.ok(playbook)
            snapshots = DIRECTORY.glob(f"qsmr_snapshot_{PROJECT}_[0-8]*")
            first = max(snapshots, key=lambda path: path.stat().st_mtime)
            cases = Cases(lab, lab.variant(first, SLOW_JOBS))
        lab.jobs = sum((lab.api().project(PROJECT) or {}).get("JobStates", {}).values())
        cases.settle()
        for name in options.only:
            began = time.monotonic()
            lab.add_jobs()
            try:
                with lab.watched():
                    getattr(cases, name)()
                outcome = "ok"
                kept.write_text(str(cases.good))
            except Exception:
                failed.append(name)
                outcome = f"FAILED\n{traceback.format_exc()}"
                for host in HOSTS:
                    lab.bring_up(host)
                lab.play("workers.yml", qsmr_snapshot=str(cases.good), qsmr_break_lock=True)
                lab.play("retry.yml", qsmr_max_attempts=100)
            print(f"{name:<32} {time.monotonic() - began:6.0f} s  {outcome}", flush=True)
    finally:
        if not options.keep:
            lab.play("demo_fleet_clean.yml")
            shutil.rmtree(DIRECTORY, ignore_errors=True)
    print(f"{len(options.only) - len(failed)} of {len(options.only)} cases are as they should be")
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
