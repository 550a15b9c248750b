# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Docker name of a project, for playbooks."""

from __future__ import annotations

import sys
from pathlib import Path

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.names import docker_name  # noqa: E402

DOCUMENTATION = r"""
name: docker_name
short_description: The lower-case name that stands for a project in names of images, containers and Compose projects
version_added: "0.1.0"
description:
  - Docker takes no capitals there, and the projects C(Demo) and C(demo) are two.
options:
  _input:
    description: Project of the job service.
    type: str
    required: true
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
compose_project: "qsmr-{{ 'demo' | docker_name }}" # qsmr-demo
"""

RETURN = r"""
_value:
  description: The project itself if it has no capitals, else its lower-case form with a part of its digest.
  type: str
"""


class FilterModule:
    """Names of things that Docker keeps."""

    def filters(self) -> dict:
        return {"docker_name": docker_name}
