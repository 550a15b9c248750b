"""Runs the job command in a process group of its own (worker contract, sections 5 and 6)."""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .output import LineReader, Output
from .signals import Stop, reap

TICK = 2.0  # s, how often `tick` is called at least
KILL_AFTER = 5.0  # s between TERM and KILL at a timeout
DRAIN_TIME = 1.0  # s to wait for output of processes that left the group and hold stdout open
# Exit status of a job that ran into its timeout, as of coreutils' `timeout`: after TERM, after KILL.
TIMEOUT_CODE, TIMEOUT_KILL_CODE = 124, 137


class CommandError(Exception):
    """The command can't be started; the message is the reason."""


@dataclass(frozen=True)
class Result:
    """How a job command ended; a negative `code` is the number of the signal that killed it."""

    code: int
    seconds: float
    given_up: bool = False

    @property
    def succeeded(self) -> bool:
        """The command did what it should."""
        return self.code == 0


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout: float | None,
    output: Output,
    stop: Stop,
    tick: Callable[[], None] = lambda: None,
) -> Result:
    """Run `argv` to its end and collect its output; nothing of its process group is left afterwards.

    The group is killed `timeout` seconds after the start, or at once (`given_up`) when `stop` runs out of time.
    Raises CommandError if it can't be started.
    """
    output.add("EXECUTOR", "Starting execution")
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"the job command {argv[0]} can't be started: {error.strerror}") from error
    try:
        timeout_code, given_up, seconds = _follow(process, started + (timeout or math.inf), output, stop, tick)
    finally:
        # Until it is reaped here a dead command keeps its process group from being anybody else's.
        _signal_group(process.pid, signal.SIGKILL)
        code = process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    if timeout_code:
        code = timeout_code
        output.add("EXECUTOR", f"Killed Job process after timeout of {timeout:.0f} seconds")
    output.add("EXECUTOR", f"Job process exited with code {code}")
    return Result(code, seconds, given_up)


def _follow(
    process: subprocess.Popen[bytes], term_at: float, output: Output, stop: Stop, tick: Callable[[], None]
) -> tuple[int, bool, float]:
    """Return the exit status if the timeout gave one (else 0), whether the job was given up, and its seconds."""
    started = time.monotonic()
    kill_at = math.inf
    timeout_code, given_up = 0, False
    with selectors.DefaultSelector() as selector:
        for pipe, source in ((process.stdout, "STDOUT"), (process.stderr, "STDERR")):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ, LineReader(source, output))
        selector.register(stop.wakeup, selectors.EVENT_READ)
        while not reap(process.pid):
            now = time.monotonic()
            if now >= stop.deadline and not given_up:
                given_up = True
                _signal_group(process.pid, signal.SIGKILL)
            if now >= kill_at:
                kill_at, timeout_code = math.inf, TIMEOUT_KILL_CODE
                _signal_group(process.pid, signal.SIGKILL)
            if now >= term_at:
                term_at, kill_at, timeout_code = math.inf, now + KILL_AFTER, TIMEOUT_CODE
                _signal_group(process.pid, signal.SIGTERM)
            due = min(now + TICK, term_at, kill_at, math.inf if given_up else stop.deadline)
            _read(selector, due - now, stop)
            tick()
        seconds = time.monotonic() - started
        _signal_group(process.pid, signal.SIGKILL)
        drained = time.monotonic() + DRAIN_TIME
        while len(selector.get_map()) > 1 and (left := drained - time.monotonic()) > 0:
            _read(selector, left, stop)
        for key in list(selector.get_map().values()):
            if key.data:
                key.data.feed(b"")
    return timeout_code, given_up, seconds


def _read(selector: selectors.BaseSelector, seconds: float, stop: Stop) -> None:
    for key, _ in selector.select(max(0.0, seconds)):
        if key.data is None:
            stop.drain()
            continue
        data = os.read(key.fd, 65_536)
        key.data.feed(data)
        if not data:
            selector.unregister(key.fileobj)


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
