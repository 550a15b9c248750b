"""The stages of a rollout: how many hosts are switched at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import QsmrError


def batch_sizes(sizes: object) -> list[str]:
    """The words of ``qsmr_rollout_batches``: numbers of hosts, or percentages of all.

    A text may hold several with commas between, written as a list or not. Raises QsmrError for anything else: what is
    not understood would be a rollout without the canary that was meant.
    """
    items = sizes if isinstance(sizes, list) else str(sizes).strip().strip("[]").split(",")
    words = [str(item).strip().strip("'\"") for item in items]
    wrong = [word for word in words if not re.fullmatch(r"[1-9][0-9]{0,5}|([1-9][0-9]?|100)%", word)]
    if wrong or not words:
        raise QsmrError(
            f'qsmr_rollout_batches cannot be "{sizes}": give numbers of hosts from 1 on, or percentages of all from 1% '
            'to 100%, such as [1, "25%", "100%"]'
        )
    return words


def batches(hosts: Sequence[str], sizes: object) -> list[list[str]]:
    """The hosts in stages, as ``batch_sizes`` reads their sizes; the last one repeats."""
    words = batch_sizes(sizes)
    left, stages = list(hosts), list[list[str]]()
    while left:
        word = words[min(len(stages), len(words) - 1)]
        size = int(word[:-1]) * len(hosts) // 100 if word.endswith("%") else int(word)
        stages.append(left[: max(size, 1)])
        left = left[max(size, 1) :]
    return stages
