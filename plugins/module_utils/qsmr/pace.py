"""How many jobs a request holds, and how many requests are under way: as the service's answer times say."""

from __future__ import annotations

import math


class Pace:
    """Aims at answers within about a second, and at just enough requests to keep the service at work.

    A request that waits in the service for others takes longer for each of its jobs than the fastest was seen to take;
    by Little's law that tells how many requests the service works on at once. One more than that keeps it at work.
    """

    SMALLEST, LARGEST = 20, 5000
    SECONDS = 1.0

    def __init__(self, most_connections: int) -> None:
        """It begins with one small request: with it the service makes the project's table, and shows what it takes."""
        self._most_connections = most_connections
        self._fastest = math.inf
        self.size = 100
        self.connections = 1

    def share(self, left: int) -> int:
        """The size of the next request when so many jobs are left: the last ones are shared by the connections."""
        return min(self.size, max(self.SMALLEST, self.size // 4, math.ceil(left / self.connections)))

    def follow(self, size: int, seconds: float, under_way: int) -> None:
        """Learn from the answer to a request of ``size`` jobs; with it, so many were under way when it was sent."""
        for_each = max(seconds, 0.001) / size
        # What was fast once need not stay so: the best time fades.
        self._fastest = min(for_each, self._fastest * 1.005)
        if 2 * size >= self.size:  # a small one tells more of the cost of a request than of waiting
            at_work = under_way * self._fastest / for_each
            self.connections = min(max(2, math.ceil(at_work) + 1), self.connections + 1, self._most_connections)
        fitting = int(self.SECONDS / for_each)
        if fitting < self.size or size >= self.size:
            self.size = min(max(fitting, self.size // 2, self.SMALLEST), self.size * 2, self.LARGEST)
