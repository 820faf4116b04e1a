#!/usr/bin/python
"""Keeps the deployment's nftables table loaded, and takes a new one back unless it is confirmed.

The wanted rules are loaded into an empty network namespace and listed there; the live table is right when it
lists the same. So a rule added or flushed by hand is seen, and there is no state to go stale.
"""

# Runs on the servers: Python 3.8 or newer, standard library only.
from __future__ import annotations

import difflib
import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: firewall
short_description: Keeps the deployment's nftables table loaded
description: Loads the table and starts a timer that takes it back; a second call over a new connection stops the timer.
options:
  state: {description: Loaded or confirmed., type: str, choices: [loaded, confirmed], required: true}
  rules: {description: The rules., type: str}
  unit: {description: The unit that loads them at boot., type: str}
  patience: {description: Seconds until an unconfirmed table is taken back., type: int}
author: SecureConnect
"""

RULES = "/etc/secureconnect/firewall.nft"
UNIT = "/etc/systemd/system/secureconnect-firewall.service"
BEFORE = "/etc/secureconnect/firewall.before.nft"
REVERT = "secureconnect-firewall-revert"
TABLE = ["table", "inet", "secureconnect"]
NO_TABLE = "table inet secureconnect\ndelete table inet secureconnect\n"


class Failed(Exception):
    """A command said no; its own words are in it."""


class Firewall:
    def __init__(self, module):
        self.module = module
        self.changes = []

    def run(self, *argv, may_fail=False):
        code, out, err = self.module.run_command(list(argv))
        if code != 0 and not may_fail:
            raise Failed("%s: %s" % (" ".join(argv), (err or out).strip()))
        return out if code == 0 else ""

    def load(self, rules, unit, patience):
        """Whether anything differed; then it was put right, except in check mode."""
        if not shutil.which("nft"):
            self.changes.append("nftables is not installed yet\n")
            return self.module.check_mode
        live, wanted = self.live(), self.listing_of(rules)
        self.note("table inet secureconnect", live, wanted)
        self.note(RULES, text_of(RULES), rules)
        self.note(UNIT, text_of(UNIT), unit)
        enabled = bool(self.run("systemctl", "is-enabled", "secureconnect-firewall", may_fail=True).strip())
        if not enabled:
            self.changes.append("secureconnect-firewall.service: enabled\n")
        if os.path.exists(BEFORE):
            self.changes.append("an earlier run was cut off before it confirmed the table\n")
        if self.changes and not self.module.check_mode:
            self.put_right(rules, unit, patience)
        return bool(self.changes)

    def live(self):
        return self.run("nft", "--stateless", "list", *TABLE, may_fail=True)

    def listing_of(self, rules):
        """How the kernel lists these rules once they are loaded; it also proves that it accepts them."""
        with tempfile.NamedTemporaryFile("w", prefix="firewall-", suffix=".nft") as file:
            file.write(rules)
            file.flush()
            script = 'nft --file "$0" && nft --stateless list table inet secureconnect'
            return self.run("unshare", "--net", "/bin/sh", "-c", script, file.name)

    def note(self, what, before, after):
        if before != after:
            lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), what + " (is)", what + " (wanted)")
            self.changes.append("".join(lines))

    def put_right(self, rules, unit, patience):
        os.makedirs(os.path.dirname(RULES), mode=0o755, exist_ok=True)
        # What an earlier run left unconfirmed is not what we want back.
        if not os.path.exists(BEFORE):
            write(BEFORE, NO_TABLE + self.live())
        self.stop_revert()
        self.start_revert(patience)
        write(RULES, rules)
        write(UNIT, unit)
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "enable", "--quiet", "secureconnect-firewall")
        self.run("systemctl", "reload-or-restart", "secureconnect-firewall")

    def start_revert(self, patience):
        """The table as it was comes back by itself, and so does the file that boots with it."""
        script = "cp {0} {1} && nft --file {1} && rm {0}".format(BEFORE, RULES)
        self.run(
            "systemd-run", "--quiet", "--collect", "--unit", REVERT, "--on-active", "%ds" % patience,
            "--timer-property", "AccuracySec=1s", "/bin/sh", "-c", script,
        )

    def stop_revert(self):
        self.run("systemctl", "stop", REVERT + ".timer", may_fail=True)

    def confirm(self):
        self.stop_revert()
        if not os.path.exists(BEFORE):
            raise Failed("the confirmation came too late: the table was taken back; run again")
        os.unlink(BEFORE)


def text_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path, text):
    new = path + ".new"
    with open(new, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["loaded", "confirmed"], "required": True},
            "rules": {"type": "str"},
            "unit": {"type": "str"},
            "patience": {"type": "int", "default": 60},
        },
        required_if=[("state", "loaded", ["rules", "unit"])],
        supports_check_mode=True,
    )
    firewall = Firewall(module)
    wanted = module.params
    try:
        if wanted["state"] == "confirmed":
            firewall.confirm()
            module.exit_json(changed=False)
        changed = firewall.load(wanted["rules"], wanted["unit"], wanted["patience"])
    except Failed as failed:
        module.fail_json(msg=str(failed))
    result = {"changed": changed}
    if module._diff:
        result["diff"] = [{"prepared": change} for change in firewall.changes]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
