#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: the level 2 of two projects side by side."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_compare
short_description: Compare the level 2 of two projects on the scans that both have
version_added: "0.1.0"
description:
  - Reads what M(qsmr_results) keeps of two projects, and says what differs in coverage, failures, profiles, measurement
    response, errors, cost, residual and processing time, and in what made them. Asks no service.
  - Writes C(compare.html) with its figures beside it, for each product C(compare_<product>.nc) and
    C(compare_<product>.csv), and C(scans.csv) with a row for each scan.
options:
  project:
    description: Project of the job service.
    type: str
    required: true
  results:
    description: Where M(qsmr_results) put its results.
    type: path
    required: true
  other:
    description: Project to compare it with. Differences are O(project) less O(other).
    type: str
    required: true
  other_results:
    description: Where M(qsmr_results) put the results of O(other).
    type: path
    required: true
  directory:
    description: Where the comparison goes.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Compares, says whether the files would change, and writes nothing.
  diff_mode:
    support: none
    description: The page is the difference.
  idempotent:
    support: full
    description: With the same results nothing is written.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: The change's effect is known
  qsmr_compare:
    project: sharper
    results: /home/ana/state/sharper/results
    other: standard
    other_results: /home/ana/state/standard/results
    directory: /home/ana/state/sharper/compare_standard
"""

RETURN = r"""
verdict:
  description: The answer in a line.
  returned: success
  type: str
findings:
  description: For each product, what differs and what does not.
  returned: success
  type: dict
coverage:
  description: Number of scans of both projects, of one only, with a profile in both, and of failures new and gone.
  returned: success
  type: dict
settings:
  description: What differs in settings and images, each as name, value in O(other), value in O(project).
  returned: success
  type: list
  elements: list
notes:
  description: What else a reader should know, such as several snapshots in one project.
  returned: success
  type: list
  elements: str
page:
  description: Path of the page.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import run_module
from ansible.module_utils.qsmr.compare import Side, compare
from ansible.module_utils.qsmr.comparepage import PAGE, write_all
from ansible.module_utils.qsmr.names import check_project_name

OPTIONS = {
    "project": {"type": "str", "required": True},
    "results": {"type": "path", "required": True},
    "other": {"type": "str", "required": True},
    "other_results": {"type": "path", "required": True},
    "directory": {"type": "path", "required": True},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    check_project_name(parameters["project"])
    check_project_name(parameters["other"], "The other project's (qsmr_compare_with)")
    directory = Path(parameters["directory"])
    result = compare(
        Side.read(parameters["project"], Path(parameters["results"])),
        Side.read(parameters["other"], Path(parameters["other_results"])),
    )
    return {
        "changed": write_all(result, directory, check_mode=module.check_mode),
        "verdict": result.verdict,
        "findings": {product.product: [finding.text for finding in product.findings] for product in result.products},
        "coverage": result.coverage,
        "settings": result.settings,
        "notes": result.notes,
        "page": str(directory / PAGE),
    }


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
