"""Asks a host everything the preflight and the roles want to know, in one remote call.

The module's reading of the clock is judged here: it lies between our two readings of it, or the host's
clock is off by the distance (`clock_skew_ms`).
"""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase


def skew_ms(before, reading, after):
    """How far a clock is off that was read between two moments of ours; 0 when it lies between them."""
    if reading < before:
        return round((reading - before) * 1000)
    return round(max(0.0, reading - after) * 1000)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        before = time.time()
        result = self._execute_module(module_name="facts", task_vars=task_vars)
        if "clock" in result:
            result["clock_skew_ms"] = skew_ms(before, result.pop("clock"), time.time())
        return result
