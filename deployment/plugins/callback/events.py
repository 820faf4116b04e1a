"""What a run does, as JSON lines for `deploy`: never a module's arguments, never a result as a whole."""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: events
type: notification
short_description: Writes one JSON line an event to the file named by SECURECONNECT_EVENTS
description:
  - A line names the event, the play, the task, the host and how it went.
  - Of a result it takes the fields C(msg) and, from a failure, the end of what the command printed.
    A task with C(no_log) gives none of them.
  - Without the variable, or when the file cannot be written, the run goes on in silence.
requirements:
  - enabled in configuration
options: {}
"""

MSG_LENGTH = 2000
DETAIL_LENGTH = 1000


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._started = {}
        self._play = ""
        self._task = ""
        self._file = self._open(os.environ.get("SECURECONNECT_EVENTS", ""))

    @staticmethod
    def _open(path):
        if not path:
            return None
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return None

    def _write(self, event, **fields):
        if self._file is None:
            return
        line = {"ts": round(time.time(), 3), "event": event, "play": self._play}
        line.update(fields)
        rest = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            while rest:
                rest = rest[os.write(self._file, rest):]
        except OSError:
            # A full disk or a reader that left must not stop a deployment.
            self._file = None

    def v2_playbook_on_play_start(self, play):
        self._play = play.get_name()
        # Of a pattern in words, what Ansible makes of it: the hosts of the inventory.
        variables = play.get_variable_manager()
        hosts = []
        inventory = getattr(variables, "_inventory", None)
        if inventory is not None:
            hosts = [host.get_name() for host in inventory.get_hosts(play.hosts)]
        self._write("play", hosts=hosts)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._task = task.get_name()
        self._write("task", **_of(task))

    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host, task):
        self._started[(host.get_name(), task._uuid)] = time.monotonic()
        self._write("start", host=host.get_name(), **_of(task))

    def v2_runner_on_ok(self, result):
        changed = bool(result.result.get("changed"))
        self._result(result, "changed" if changed else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._result(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result):
        self._result(result, "ignored" if result.task.ignore_unreachable else "unreachable")

    def v2_runner_on_skipped(self, result):
        self._result(result, "skipped")

    def _result(self, result, status):
        host = result.host.get_name()
        began = self._started.pop((host, result.task._uuid), time.monotonic())
        self._write(
            "result",
            host=host,
            status=status,
            changed=status == "changed",
            duration=round(time.monotonic() - began, 3),
            **_of(result.task),
            **_said(result, status),
        )

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            self._write("stats", host=host, stats=stats.summarize(host))
        self._write("end")


def _of(task):
    role = task._role.get_name() if task._role else ""
    name = task.get_name(include_role_fqcn=False)
    return {"task": name.removeprefix(f"{role} : "), "role": role, "action": task.action}


def _said(result, status):
    """The message, and of a failure the end of what was printed; nothing of a censored task."""
    body = result.result
    if result.task.no_log or body.get("_ansible_no_log") or "censored" in body:
        return {"msg": "censored"} if status in ("failed", "unreachable", "ignored") else {}
    if status not in ("failed", "unreachable", "ignored"):
        # Our own actions speak in ok results as well; other modules' chatter stays away.
        return {"msg": _short(body["say"], MSG_LENGTH)} if "say" in body else {}
    said = {"msg": _short(_message(body), MSG_LENGTH)}
    detail = str(body.get("stderr") or body.get("stdout") or "").strip()
    if detail and detail not in said["msg"]:
        said["detail"] = detail[-DETAIL_LENGTH:]
    return said


def _message(body):
    """A loop's own message says only that an item failed; the item says why."""
    for item in body.get("results") or []:
        if not isinstance(item, dict) or not item.get("failed"):
            continue
        if item.get("_ansible_no_log") or "censored" in item:
            return "censored"
        return item.get("msg", "")
    return body.get("msg", "")


# What ansible-core puts before a message, telling nobody anything.
PREAMBLES = ("Task failed: ", "Action failed: ", "Module failed: ")


def _short(text, length):
    text = text if isinstance(text, str) else json.dumps(text, default=str)
    text = text.strip().replace("\r", "")
    for preamble in PREAMBLES:
        text = text.removeprefix(preamble)
    return text if len(text) <= length else text[: length - 1] + "…"
