"""Python's clock an hour ahead, in whatever process imports this: a container's own clock cannot be set.

``time.sleep`` and the like go by another clock, as they do when somebody steps a real one.
"""

import datetime
import time

STEP = 3600
_datetime, _time, _time_ns = datetime.datetime, time.time, time.time_ns


class _Kind(type):
    """What C code makes is of the former kind."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class Stepped(_datetime, metaclass=_Kind):
    """A datetime whose now is an hour ahead."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return super().now(tz) + datetime.timedelta(seconds=STEP)

    @classmethod
    def utcnow(cls) -> datetime.datetime:
        return cls.now(datetime.UTC).replace(tzinfo=None)


datetime.datetime = Stepped  # type: ignore[misc]
time.time = lambda: _time() + STEP
time.time_ns = lambda: _time_ns() + STEP * 10**9
