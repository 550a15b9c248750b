"""Times and rates as a reader wants them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Two units at most: "41 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def speed(per_minute: float) -> str:
    """Never a zero for what is none: "22.4 jobs/min", "6.0 jobs/h", "1.2 jobs/d"."""
    for unit, factor in (("min", 1), ("h", 60)):
        if per_minute * factor >= 1:
            return f"{per_minute * factor:,.1f} jobs/{unit}"
    return f"{per_minute * 1440:,.2g} jobs/d"


def several(number: int, word: str) -> str:
    """ "1 job", "2 jobs"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
