"""What the check of all hosts writes into the audit before anything is sent."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from qsmr.audit import Audit

sys.path.append(str(Path(__file__).parents[2] / "plugins/action"))
from qsmr_rollout import ActionModule  # noqa: E402

FIT = {"faults": [], "differences": ["image: none -> r2"], "target": "r2", "workers": {}, "release": ""}


@pytest.fixture
def check(tmp_path):
    def run(what: str, check_mode: bool = False) -> tuple[list[str], list[dict]]:
        answers = {"host1": {**FIT, "has_image": False}, "host2": {**FIT, "has_image": True}}
        action = SimpleNamespace(
            given={"what": what, "answers": "worker_found", "skip_unfit": False},
            audit=Audit(tmp_path),
            _task=SimpleNamespace(check_mode=check_mode),
            _answers=lambda _variable: answers,
        )
        found = ActionModule._check(action)
        return found["ansible_facts"]["preflight_push"], action.audit.events()

    return run


def test_hosts_that_are_sent_an_image_are_told_before_it_is_sent(check):
    push, [event] = check("rollout")
    assert push == event["hosts"] == ["host1"]
    assert (event["event"], event["to"]) == ("push", "r2")
    assert "@" in event["by"]


@pytest.mark.parametrize("given", [("rollout", True), ("rollback", False)], ids=["check mode", "rollback"])
def test_nothing_is_told_where_nothing_is_sent(check, given):
    _push, events = check(*given)
    assert events == []


def test_rollback_sends_nothing_even_where_the_image_is_gone(check):
    assert check("rollback")[0] == []
