# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """``qsmr``: a project and the services. Others: where level 2 is stored; a project on a host, and its workers."""

    DOCUMENTATION = r"""
options:
  config_file:
    description: KEY=VALUE file with the five settings of the former scripts.
    type: path
  config:
    description: The same keys, for values that come from a vault. They win over the file.
    type: dict
    default: {}
    suboptions:
      ODIN_API_ROOT:
        description: URL of the Odin API.
        type: str
      ODIN_SECRET:
        description: The secret that the jobs' targets are encrypted with.
        type: str
      JOB_API_ROOT:
        description: URL of the job service.
        type: str
      JOB_API_USERNAME:
        description: User of the job service.
        type: str
      JOB_API_PASSWORD:
        description: Its password.
        type: str
  project:
    description: Project of the job service.
    type: str
    required: true
"""

    ODIN_PROJECT = r"""
options:
  odin_project:
    description: Project that level 2 is stored under. The same name as O(project) when not given.
    type: str
"""

    HOST = r"""
options:
  project:
    description: Project of the job service.
    type: str
    required: true
  host_dir:
    description: Directory on the host that holds C(<project>/releases) and C(<project>/current).
    type: path
    required: true
"""

    WORKERS = r"""
options:
  compose_project:
    description: Name of the Compose project that the workers belong to.
    type: str
    required: true
"""
