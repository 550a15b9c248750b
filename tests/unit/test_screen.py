"""The screen: what it says, and that it stays readable whatever services and hosts put into it."""

from __future__ import annotations

import copy
import unicodedata
from typing import Any

import pytest
from qsmr.screen import render
from qsmr.words import duration, speed

RELEASE = "261123-0a1b2c3d4e"


def host(name: str, workers: int = 1, healthy: int = 1, **more: Any) -> dict:
    return {
        "host": name,
        "state": "answers",
        "error": None,
        "release": RELEASE,
        "running": [RELEASE] if workers else [],
        "image": f"qsmr_snapshot_demo:{RELEASE}",
        "healthy": healthy,
        "workers": [{"name": f"UWorker_{name}_{n}"} for n in range(workers)],
        **more,
    }


PICTURE: dict[str, Any] = {
    "time": "2026-11-23T10:00:00Z",
    "project": "demo",
    "exists": True,
    "ending": "going",
    "message": "40 of 60 jobs finished.",
    "service": "http://10.87.0.10:5000/rest_api",
    "states": {"available": 10, "claimed": 1, "started": 2, "finished": 40, "failed": 7},
    "total": 60,
    "remaining": 13,
    "rate": {"jobs": 47, "seconds": 94, "per_minute": 30.0},
    "eta_seconds": 26,
    "eta_service": "1 day, 5:00:00",
    "workers": [
        {"name": "UWorker_host1_0", "host": "host1", "holds": 2, "ended": 20},
        {"name": "UWorker_stranger", "host": None, "holds": 1, "ended": 27},
    ],
    "hosts": [host("host1"), host("host2", 2, 1), host("host3", 0, 0, state="unreachable", error="no route")],
    "failures": [
        {
            "line": "ValueError: no spectra left",
            "count": 7,
            "jobs": ["1:7014791071", "1:7014791072", "1:7014791073"],
            "output": "http://10.87.0.10:5000/rest_api/v4/demo/jobs/1:7014791071/output",
        }
    ],
    "failures_read": 7,
    "level2": {"reachable": True, "scans": 40, "failed": 3, "error": None},
    "attention": ["host3 is unreachable: no route"],
    "urls": {"status": "http://10.87.0.10:5000/rest_api/v4/demo", "level_2": "http://odin/v4/level2/demo/1/<scanid>"},
}


def line_with(screen: str, word: str) -> str:
    return next(line for line in screen.splitlines() if word in line)


def changed(**values: Any) -> dict:
    return {**copy.deepcopy(PICTURE), **values}


def test_everything_is_said_in_80_columns():
    screen = render(PICTURE)
    assert max(map(len, screen.splitlines())) <= 80
    assert "47 of 60 jobs ended, 78 %: 7 failed" in screen
    heading, numbers = line_with(screen, "available").split(), screen.splitlines()[3].split()
    assert dict(zip(heading, numbers, strict=True)) == {
        **{state: str(number) for state, number in PICTURE["states"].items()},
        "total": "60",
    }
    assert "30.0 jobs/min (47 in 94 s)" in screen
    assert "in 26 s (the service says 1 day, 5:00:00)" in screen
    assert "40 scans at the Odin API, 3 could not be retrieved" in screen
    assert " ".join(line_with(screen, "host1").split()) == f"host1 {RELEASE} 1 of 1 healthy 2 20 qsmr_snapshot_demo"
    assert "1 of 2 healthy" in line_with(screen, "host2")
    assert "unreachable" in line_with(screen, "host3")
    assert line_with(screen, "UWorker_stranger").split() == ["UWorker_stranger", "1", "27"]
    assert line_with(screen, "7 jobs").split() == ["7", "jobs", "ValueError:", "no", "spectra", "left"]
    assert "1:7014791071, 1:7014791072, 1:7014791073, ..." in screen
    for url in (*PICTURE["urls"].values(), PICTURE["failures"][0]["output"]):
        assert url in screen
    assert "! host3 is unreachable: no route" in screen


def test_urls_stay_in_one_piece_however_long():
    url = "http://a.host.with.a.long.name.example.com:5000/rest_api/v4/" + "p" * 59 + "/jobs/1:7014791071/output"
    screen = render(changed(urls={"status": url}, failures=[{**PICTURE["failures"][0], "output": url}]))
    assert screen.count(url) == 2


def test_long_texts_are_folded_and_not_lost():
    word = "x" * 200
    screen = render(changed(attention=[word], failures=[{**PICTURE["failures"][0], "line": word}]))
    assert screen.count("x") >= 400
    assert max(map(len, screen.splitlines())) <= 80


def test_a_wide_terminal_is_used_within_reason():
    assert {len(render(PICTURE, width).splitlines()[1]) for width in (10, 79, 80)} == {80}
    assert {len(render(PICTURE, width).splitlines()[1]) for width in (120, 400)} == {120}


def test_no_colour_unless_asked_for():
    assert "\x1b" not in render(PICTURE)
    assert "\x1b[" in render(PICTURE, colour=True)


def test_ascii_terminal_gets_ascii():
    screen = render(changed(attention=["hôst – off"]), encoding="ascii")
    assert screen.isascii()
    assert "h?st ? off" in screen
    assert render(changed(attention=["hôst – off"])).count("hôst – off") == 1


@pytest.mark.parametrize("text", ["\x1b[2J\x1b[H", "a\rb", "\x07", "\u202egnp", "[bold]not markup[/bold]", ":smile:"])
def test_texts_of_others_cannot_command_the_terminal(text):
    hostile = changed(
        attention=[text],
        project=text,
        states={text: 1},
        hosts=[host("h", error=text, image=text, release=text, running=[text])],
        workers=[{"name": text, "host": None, "holds": 1, "ended": 0}],
        failures=[{"line": text, "count": 1, "jobs": [text], "output": text}],
        urls={"status": text},
    )
    screen = render(hostile)
    assert not [c for c in screen if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"]
    assert all(part in screen for part in text.split("\x1b") if part.isprintable())


def test_unknown_project_says_what_to_do():
    screen = render(
        changed(
            exists=False,
            message="The job service has no project demo yet: run jobs.yml.",
            total=0,
            remaining=0,
            rate=None,
            failures=[],
            workers=[],
            hosts=[],
        )
    )
    assert "no project demo yet: run jobs.yml" in screen
    assert "Rate" not in screen
    assert PICTURE["urls"]["status"] in screen


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"remaining": 0, "eta_seconds": 0}, "ETA      all have ended"),
        ({"ending": "no ends", "eta_service": None}, "ETA      unknown: nothing moves"),
        ({"rate": {"jobs": 3, "seconds": 86400, "per_minute": 0.0021}}, "3 jobs/d (3 in 24 h 00 min)"),
        ({"rate": None, "eta_seconds": None, "eta_service": None}, "unknown: no job ended in the last day"),
        ({"rate": {"jobs": 3, "seconds": 7200, "per_minute": 0.025}}, "1.5 jobs/h (3 in 2 h 00 min)"),
        (
            {"total": 0, "message": "Project demo has no jobs: run jobs.yml."},
            "\nProject demo has no jobs: run jobs.yml.\n",
        ),
    ],
)
def test_pace(values, words):
    assert words in render(changed(**values))


def test_level2_is_left_out_where_the_odin_api_does_not_tell():
    assert "Level 2" not in render(changed(level2={"reachable": True, "scans": None, "failed": None, "error": None}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7170, "2 h 00 min"),
        (7300, "2 h 02 min"),
        (172800, "2 d 0 h"),
        (200000, "2 d 7 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_failures_that_were_not_looked_at_are_said():
    states = {"available": 0, "claimed": 0, "started": 0, "finished": 0, "failed": 7}
    assert "Failures\n" in render(changed(states=states))
    assert "Failures (of the newest 7 of 9000)" in render(changed(states=states | {"failed": 9000}))


@pytest.mark.parametrize(
    ("states", "bar", "words"),
    [
        ({"finished": 60}, "━" * 40, "60 of 60 jobs ended, 100 %"),
        ({"failed": 60}, "x" * 30, "60 of 60 jobs ended, 100 %: all failed"),
        ({"finished": 30, "failed": 30}, "━" * 10 + "x" * 10, "60 of 60 jobs ended, 100 %: 30 failed"),
        ({"available": 60}, " " * 40, "0 of 60 jobs ended, 0 %"),
        ({"finished": 59, "failed": 1}, "━x ", "60 of 60 jobs ended, 100 %: 1 failed"),
    ],
)
def test_bar_shows_what_failed_also_without_colours(states, bar, words):
    remaining = states.get("available", 0)
    line = render(changed(states=states, remaining=remaining)).splitlines()[1]
    assert line.endswith(words)
    assert bar in f" {line}" if bar.strip() else "━" not in line


def test_bar_of_failures_is_red():
    """Green is for what finished."""
    screen = render(changed(states={"failed": 60}, remaining=0), colour=True).splitlines()[1]
    assert "\x1b[31mxxx" in screen
    assert "\x1b[32m" not in screen


@pytest.mark.parametrize(
    ("per_minute", "text"),
    [
        (1400, "1,400.0 jobs/min"),
        (1, "1.0 jobs/min"),
        (0.025, "1.5 jobs/h"),
        (0.001, "1.4 jobs/d"),
        (0.0001, "0.14 jobs/d"),
    ],
)
def test_a_slow_rate_is_never_nothing(per_minute, text):
    assert speed(per_minute) == text
