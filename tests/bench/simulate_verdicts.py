#!/usr/bin/env python3
"""How often compare.yml finds a difference where there is none, and where there is one: simulated pairs of projects.

usage: simulate_verdicts.py [--runs 1000] [--seed 1] [CASE ...]
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests")]
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from scipy import stats  # noqa: E402
from verdict_cases import CASES, Case, finds_a_difference  # noqa: E402


def verdict(case: Case, found: int, runs: int) -> str:
    """Whether the rate is what the case asks for, as far as so many runs can tell."""
    asked = f"at most {case.at_most:.2f}" if case.at_most is not None else f"at least {case.at_least:.2f}"
    low, high = stats.binomtest(found, runs).proportion_ci(0.95)
    missed = low > case.at_most if case.at_most is not None else high < (case.at_least or 0)
    return f"{found / runs:6.3f}   {low:.3f} to {high:.3f}   {asked}   {'MISSED' if missed else 'ok'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("cases", nargs="*", help="only cases with one of these words in their name")
    given = parser.parse_args()
    print(f"{given.runs} runs a case, seeds {given.seed} to {given.seed + given.runs - 1}")
    print(f"{'case':46}   found   95 % confidence   asked")
    missed = False
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for case in CASES:
            if given.cases and not any(word in case.name for word in given.cases):
                continue
            seeds = range(given.seed, given.seed + given.runs)
            found = sum(pool.map(partial(finds_a_difference, case), seeds, chunksize=20))
            line = verdict(case, found, given.runs)
            missed |= line.endswith("MISSED")
            print(f"{case.name:46}  {line}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
