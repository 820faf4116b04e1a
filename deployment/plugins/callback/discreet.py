"""Ansible's default output, which keeps quiet about failures of tasks with no_log as well."""

from __future__ import annotations

from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: discreet
type: stdout
short_description: The default output without the messages of censored tasks
description:
  - ansible-core 2.19 hides the result of a failed task with C(no_log), but prints its message as an error
    above it. Where that message repeats a secret, so does the log.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""


class CallbackModule(Default):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "discreet"

    def _handle_exception(self, result, use_stderr=False):
        task = self._current_task_result.task if self._current_task_result else None
        if "censored" in result or (task is not None and task.no_log is True):
            result.pop("exception", None)
            return
        super()._handle_exception(result, use_stderr)
