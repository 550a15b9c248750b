"""Wrong passwords are counted, and whoever sends many has to wait."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

ALLOWED = 10
SECONDS = 60.0
MOST_REMEMBERED = 10_000


class Guesses:
    """Wrong passwords by user and address, in the memory of one process: ALLOWED different ones in so many SECONDS.

    Workers that come with an old password again and again do not guess, and hinder nobody behind the same address.
    Threads may share it. Only hashes are remembered, which mean nothing elsewhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[int, tuple[float, set[int]]] = OrderedDict()

    def wait(self, user: str, address: str) -> float:
        """Seconds until the next password of this user from there is looked at; 0 if it is at once."""
        with self._lock:
            end, seen = self._wrong.get(hash((user, address)), (0.0, set()))
            return max(end - self._clock(), 0.0) if len(seen) >= ALLOWED else 0.0

    def note(self, user: str, address: str, password: str, right: bool) -> None:
        """What a password turned out to be. A right one forgives the wrong ones."""
        now = self._clock()
        with self._lock:
            end, seen = self._wrong.pop(hash((user, address)), (0.0, set()))
            if right:
                return
            if end <= now:
                end, seen = now + SECONDS, set()
            self._wrong[hash((user, address))] = end, seen | {hash(password)}
            if len(self._wrong) > MOST_REMEMBERED:
                self._wrong.popitem(last=False)
