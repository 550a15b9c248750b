"""The control node's libraries that are not Python's own: code is importable without them, and says so before it runs.

Lab hosts need none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import QsmrError

_missing: list[str] = []


@contextmanager
def libraries() -> Iterator[None]:
    """Put around imports. What is missing is for ``check_libraries`` to tell, which all calls that Ansible starts."""
    try:
        yield
    except ImportError as error:
        _missing.append(error.name or str(error))


def check_libraries() -> None:
    """Raises QsmrError if an import was in vain."""
    if _missing:
        names = ", ".join(dict.fromkeys(_missing))
        raise QsmrError(
            f"Python libraries are missing from {sys.executable}: {names}; "
            "run make setup, and then the playbooks with .venv/bin/ansible-playbook"
        )
