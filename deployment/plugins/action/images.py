"""With `refs`, has the module name the images a host lacks. With `archive`, carries one over and has it loaded."""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase

# Not in /tmp, which may be memory. The system cleans it if we are cut off.
FOLDER = "/var/tmp"


class ActionModule(ActionBase):
    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset({"refs", "archive"})

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        archive = self._task.args.get("archive")
        if not archive:
            return self._ask(task_vars, refs=self._task.args["refs"])
        if self._task.check_mode:
            return {"changed": True}
        place = f"{FOLDER}/secureconnect-{os.getpid()}-{os.path.basename(archive)}"
        try:
            self._connection.put_file(archive, place)
            return self._ask(task_vars, load=place)
        finally:
            self._low_level_execute_command(f"rm -f {place}", sudoable=False)

    def _ask(self, task_vars, **args):
        return self._execute_module(module_name="images", module_args=args, task_vars=task_vars)
