#!/usr/bin/python
"""Names the images a host lacks, or loads one. Where there is no engine yet, all are lacking."""

# Runs on the servers: Python 3.8 or newer, standard library only.
from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: images
short_description: Names the images a host lacks, or loads one
description: >-
  Asks the engine once for all. Naming reports a change in check mode only, where nobody loads them afterwards.
options:
  refs: {description: The images wanted., type: list, elements: str}
  load: {description: An archive on the host., type: path}
author: SecureConnect
"""


def bare(ref):
    """A reference as the engine lists it: without the default registry and without a digest."""
    ref = ref.split("@")[0]
    for prefix in ("docker.io/library/", "docker.io/"):
        if ref.startswith(prefix):
            return ref[len(prefix):]
    return ref


def lacking(module):
    there = set()
    if module.get_bin_path("docker"):
        listed = module.run_command(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])[1]
        there = set(listed.split())
    return [ref for ref in module.params["refs"] if bare(ref) not in there]


def main():
    module = AnsibleModule(
        argument_spec={"refs": {"type": "list", "elements": "str"}, "load": {"type": "path"}},
        required_one_of=[("refs", "load")],
        supports_check_mode=True,
    )
    if module.params["load"]:
        said = module.run_command(["docker", "load", "--quiet", "--input", module.params["load"]], check_rc=True)[1]
        module.exit_json(changed=True, msg=said.strip())
    missing = lacking(module)
    module.exit_json(changed=module.check_mode and bool(missing), lacking=missing)


if __name__ == "__main__":
    main()
