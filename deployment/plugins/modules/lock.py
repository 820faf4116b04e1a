#!/usr/bin/python
"""One deployment at a time: the lock is a directory on one host, with its owner inside."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time

DOCUMENTATION = """
module: lock
short_description: Holds or releases the deployment's lock on one host
description:
  - The directory appears with its owner inside in one step (rename), so that of two contenders one wins
    and nobody ever meets a lock without an owner. Times are those of the host that keeps the lock.
  - The action plugin of the same name decides whether an owner is dead; this module does as it is told.
  - C(deploy) runs this same file over ssh as C(python3 - JSON), to keep the lock alive and to show it.
options:
  state:
    description:
      - C(held) takes it, or refreshes one's own. C(released) gives one's own back.
      - C(shown) and C(beat) look, and say that the owner lives. C(broken) removes whatever is there.
    choices: [held, released, shown, beat, broken]
    default: held
    type: str
  path:
    description: The directory.
    default: /run/secureconnect-lock
    type: path
  owner:
    description: Who takes it; C(run_id) tells owners apart.
    type: dict
    default: {}
  instead_of:
    description: The C(run_id) of an owner known to be dead, which may be taken over.
    type: str
    default: ""
author:
  - SecureConnect
"""

EXAMPLES = """
- name: This run holds the lock
  lock:
    state: held
  run_once: true
"""

RETURN = """
held:
  description: Whether somebody holds it after this call.
  returned: always
  type: bool
mine:
  description: Whether the caller does.
  returned: always
  type: bool
owner:
  description: Who holds it, with C(silent), the seconds since the last sign of life.
  returned: when held
  type: dict
"""

OWNER = "owner.json"


def act(state, path, owner, instead_of=""):
    """Do what is asked and say who holds the lock afterwards."""
    run_id = owner.get("run_id", "")
    if state == "shown":
        return _tell(path, run_id)
    with _alone(path):
        now = _read(path)
        if state == "broken" and now is not None:
            shutil.rmtree(path)
        if state == "released" and _is(now, run_id):
            shutil.rmtree(path)
        if state == "beat" and _is(now, run_id):
            _write(path, dict(now, heartbeat=int(time.time())))
        if state == "held":
            _hold(path, owner, now, instead_of)
    return _tell(path, run_id)


def _hold(path, owner, now, instead_of):
    if now is not None and instead_of and _is(now, instead_of):
        shutil.rmtree(path)
        now = None
    if _is(now, owner["run_id"]):
        return _write(path, dict(now, heartbeat=int(time.time())))
    if now is None:
        _take(path, owner)


def _take(path, owner):
    """rename(2) refuses a directory that is not empty: this is the one step that decides."""
    moment = int(time.time())
    draft = tempfile.mkdtemp(prefix=os.path.basename(path) + ".", dir=os.path.dirname(path))
    try:
        _write(draft, dict(owner, started=moment, heartbeat=moment))
        os.chmod(draft, 0o755)
        os.rename(draft, path)
    except OSError as refused:
        shutil.rmtree(draft, ignore_errors=True)
        if refused.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _is(now, run_id):
    return now is not None and bool(run_id) and now.get("run_id") == run_id


def _read(path):
    try:
        with open(os.path.join(path, OWNER), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {"run_id": "", "owner": "unknown", "heartbeat": int(os.path.getmtime(path))}


def _write(path, owner):
    draft = os.path.join(path, "." + OWNER)
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(owner, file)
    os.chmod(draft, 0o644)
    os.replace(draft, os.path.join(path, OWNER))


def _tell(path, run_id):
    now = _read(path)
    if now is None:
        return {"held": False, "mine": False}
    now["silent"] = max(0, int(time.time()) - int(now.get("heartbeat", 0)))
    now["age"] = max(0, int(time.time()) - int(now.get("started", now.get("heartbeat", 0))))
    return {"held": True, "mine": _is(now, run_id), "owner": now}


@contextlib.contextmanager
def _alone(path):
    """Look and act as one: the kernel lets go of this when the process ends, however it ends."""
    with open(path + ".guard", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def main():
    if len(sys.argv) > 1:
        print(json.dumps(act(**json.loads(sys.argv[1]))))
        return
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "default": "held",
                "choices": ["held", "released", "shown", "beat", "broken"],
            },
            "path": {"type": "path", "default": "/run/secureconnect-lock"},
            "owner": {"type": "dict", "default": {}},
            "instead_of": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    asked = dict(module.params)
    if module.check_mode:
        asked["state"] = "shown"
    try:
        module.exit_json(changed=False, **act(**asked))
    except OSError as problem:
        module.fail_json(msg=f"the lock {asked['path']}: {problem}")


if __name__ == "__main__":
    main()
