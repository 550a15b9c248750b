"""The one exception that a user's mistake or an expected failure becomes."""

from __future__ import annotations


class QsmrError(Exception):
    """An expected failure. Its text is all that the user sees: what is wrong, where, and what to do."""
