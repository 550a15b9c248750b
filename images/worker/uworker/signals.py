"""Signals of the worker: the wish to stop, and the death of child processes, without polling for either."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The worker was asked to stop while it waited for something that may be left at any time."""


class Stop:
    """The wish to stop: TERM or INT gives the job at hand `grace_period` seconds, a second one none at all.

    `deadline` is the monotonic time at which the job at hand has to be given up.
    """

    def __init__(self, grace_period: float) -> None:
        self.grace_period = grace_period
        self.requested = False
        self.deadline = math.inf
        self.wakeup, self._wakeup_in = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(self._wakeup_in, False)
        self._interruptible = False

    def install(self) -> None:
        """Handle TERM and INT; from now on they and CHLD make `wakeup` readable."""
        signal.set_wakeup_fd(self._wakeup_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.deadline = time.monotonic() + (0 if self.requested else self.grace_period)
        self.requested = True
        if self._interruptible:
            self._interruptible = False
            raise Interrupted

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a wish to stop break off the block by raising Interrupted."""
        self._interruptible = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes (a child's death is one), at most `seconds`."""
        if select.select([self.wakeup], [], [], max(0.0, seconds))[0]:
            self.drain()

    def drain(self) -> None:
        """Empty `wakeup`."""
        try:
            while os.read(self.wakeup, 512):
                pass
        except BlockingIOError:
            pass


def reap(child: int | None = None) -> bool:
    """Reap all dead processes except `child`, and tell whether `child` is dead.

    As first process of a container the worker inherits orphans that nobody else reaps.
    """
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if dead is None or dead.si_pid == child:
            return dead is not None
        os.waitpid(dead.si_pid, 0)
