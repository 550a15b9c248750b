"""Python's clock an hour ahead, in whatever process imports this: a container's own clock cannot be set.

``time.sleep`` and the like go by another clock, as they do when somebody steps a real one.
"""

import datetime
import time

STEP = 3600
_datetime, _time, _time_ns = datetime.datetime, time.time, time.time_ns


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class Stepped(_datetime, metaclass=_Kind):
    """A datetime whose now is an hour ahead; what it makes is of the former kind, whose name others write into code."""

    def __new__(cls, *given, **named):
        return _datetime(*given, **named)

    @classmethod
    def now(cls, tz=None):
        return _datetime.now(tz) + datetime.timedelta(seconds=STEP)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.UTC).replace(tzinfo=None)


datetime.datetime = Stepped
time.time = lambda: _time() + STEP
time.time_ns = lambda: _time_ns() + STEP * 10**9
