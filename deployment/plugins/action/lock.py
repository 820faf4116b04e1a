"""Takes and releases the deployment's lock for this run, and decides whether another owner is dead."""

from __future__ import annotations

import getpass
import os
import socket

from ansible.plugins.action import ActionBase

# `deploy` gives a sign of life every 15 s; ten minutes of silence is a dead controller. A plain
# ansible-playbook gives one at each `lock` task only, so it asks for more patience.
PATIENCE_BEATING = 600
PATIENCE_SILENT = 7200


class ActionModule(ActionBase):
    """Arguments: state (held or released), path. One host keeps the lock: use run_once and delegate_to."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        state = self._task.args.get("state", "held")
        if state not in ("held", "released"):
            return {"failed": True, "msg": f"lock: state must be held or released, not {state}"}
        unknown = set(self._task.args) - {"state", "path"}
        if unknown:
            return {"failed": True, "msg": f"lock: unknown argument {', '.join(sorted(unknown))}"}
        me = self._me(task_vars)
        answer = self._ask(task_vars, state, me)
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        if self._task.check_mode:
            return self._rehearsed(answer)
        if state == "released":
            return self._done("The lock is free." if not answer["held"] else f"The lock is {_whose(answer)}.")
        if answer["mine"]:
            return self._done("The lock is held.")
        return self._contend(task_vars, me, answer)

    def _contend(self, task_vars, me, answer):
        """Somebody else has it: take it from the dead, leave it to the living."""
        dead = _cause_of_death(answer["owner"], me)
        if not dead:
            return {"failed": True, "changed": False, "msg": _refusal(answer)}
        before = answer["owner"]
        answer = self._ask(task_vars, "held", me, instead_of=before["run_id"])
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        if not answer["mine"]:
            # Another contender was quicker, or the dead one spoke.
            return {"failed": True, "changed": False, "msg": _refusal(answer)}
        return self._done(f"The lock was taken over from {before.get('owner')}: {dead}.")

    def _rehearsed(self, answer):
        if not answer["held"] or answer["mine"]:
            return self._done("The lock is free; a real run would take it.")
        return self._done(f"The lock is {_whose(answer)}; a real run would have to wait.")

    def _ask(self, task_vars, state, me, instead_of=""):
        args = {"state": state, "owner": me, "instead_of": instead_of}
        if "path" in self._task.args:
            args["path"] = self._task.args["path"]
        return self._execute_module(module_name="lock", module_args=args, task_vars=task_vars)

    @staticmethod
    def _done(say):
        return {"changed": False, "msg": say, "say": say}

    def _me(self, task_vars):
        # `deploy` names the run and stays alive through it; by hand, ansible-playbook itself is the
        # owner, and this code runs in a child of it.
        pid = int(task_vars.get("deploy_pid") or os.getppid())
        run_id = task_vars.get("deploy_run_id")
        return {
            "run_id": str(run_id or f"ansible-playbook {_controller()} {pid} {_birth(pid)}"),
            "owner": f"{getpass.getuser()}@{socket.gethostname()}",
            "pid": pid,
            "birth": _birth(pid),
            "controller": _controller(),
            "what": str(task_vars.get("deploy_what") or "ansible-playbook"),
            "patience": PATIENCE_BEATING if run_id else PATIENCE_SILENT,
        }


def _cause_of_death(owner, me):
    """Why the owner counts as dead, or nothing when it must be taken for alive."""
    if owner.get("controller") == me["controller"]:
        # Here it can be known, so silence proves nothing.
        born = _birth(int(owner.get("pid") or 0))
        if born and born == owner.get("birth"):
            return ""
        return f"its process {owner.get('pid')} on this machine is gone"
    if owner["silent"] > int(owner.get("patience") or PATIENCE_BEATING):
        return f"no sign of life for {owner['silent']} s"
    return ""


def _refusal(answer):
    return (
        f"LOCKED: the lock is {_whose(answer)}. Wait for it, or, if that run is known to be dead, "
        "remove the lock with: deploy unlock --force"
    )


def _whose(answer):
    owner = answer.get("owner", {})
    return (
        f"held by {owner.get('owner')} (pid {owner.get('pid')}, {owner.get('what')}) "
        f"since {owner.get('age')} s, last sign of life {owner.get('silent')} s ago"
    )


def _controller():
    """This machine since its start, as one process tree: what a pid means something in."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _birth(pid):
    """When the process started, so that a number used again is not taken for the same; 0 if gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return _birth_elsewhere(pid)
    # A zombie has stopped working.
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def _birth_elsewhere(pid):
    """Without /proc only the number can be asked for."""
    if os.path.isdir("/proc/self"):
        return 0
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, ValueError):
        return 0
    except OSError:
        pass
    return 1
