#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: images of this machine's Docker engine are current."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_local_image
short_description: Build images when their inputs have changed
version_added: "0.1.0"
description:
  - Compares the inputs of each image (its directory's files, its base image, its arguments) with those that the image
    was made from, as its label C(org.qsmr.fleet.inputs) tells, and builds what differs, side by side.
  - Images are built through the docker command, with or without buildx. An old image that nothing needs is removed.
options:
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The image's name with its tag.
        type: str
        required: true
      context:
        description: Directory that the image is built from.
        type: path
        required: true
      base:
        description: The image that it is built on, known to the Dockerfile as the argument C(BASE_IMAGE).
        type: str
        default: ""
      build_args:
        description: Further arguments of the Dockerfile.
        type: dict
        default: {}
      command:
        description:
          - Used instead of a Dockerfile. Program of the directory, and its arguments, that writes the root file system
            as tar to stdout.
        type: list
        elements: str
        default: []
  cache_dir:
    description: Where a command keeps its downloads (C(CACHE_DIR) of its environment).
    type: path
    required: true
  to_be_made:
    description: For check mode. Names of base images that an earlier task would have made.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Says what would be built, what is built on an image of O(to_be_made) included.
  diff_mode:
    support: full
    description: Digests of the inputs of images that differ, old and new.
  idempotent:
    support: full
    description: Nothing is built while the inputs are the same.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: The worker image is current
  qsmr_local_image:
    images:
      - name: qsmr-fleet/worker:latest
        context: images/worker
        base: qsmr-fleet/base:trixie
    cache_dir: build/cache
"""

RETURN = r"""
images:
  description: Image id by name. V(none) for an image that check mode would build for the first time.
  returned: always
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.local_image import Recipe, ensure


def run(module: AnsibleModule) -> dict:
    recipes = [Recipe(**{**image, "context": Path(image["context"])}) for image in module.params["images"]]
    given = module.params
    outcomes = ensure(recipes, Path(given["cache_dir"]), module.check_mode, given["to_be_made"])
    changed = [outcome for outcome in outcomes if outcome.changed]
    return {
        "changed": bool(changed),
        "images": {outcome.name: outcome.id for outcome in outcomes},
        "diff": {
            "before": {outcome.name: outcome.before for outcome in changed},
            "after": {outcome.name: outcome.after for outcome in changed},
        },
    }


def main() -> None:
    image = {
        "name": {"type": "str", "required": True},
        "context": {"type": "path", "required": True},
        "base": {"type": "str", "default": ""},
        "build_args": {"type": "dict", "default": {}},
        "command": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "dict", "required": True, "options": image},
            "cache_dir": {"type": "path", "required": True},
            "to_be_made": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except QsmrError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
