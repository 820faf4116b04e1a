"""The passwords of a deployment: one file beside its inventory, made once and only ever added to.

`hosts` are the fingerprints the hosts keep of the secrets they run. If they were made with another file than
the one here, or with one that is missing here, nothing is generated: the answer names the file to copy. `look`
does no more than that, and its answer holds no secret.
The file may be encrypted with ansible-vault; a name that is new is then added under the same password.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import string
import tempfile

import yaml

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

ALPHABET = string.ascii_letters + string.digits
HEADER = "# The passwords of this deployment. Keep this file, back it up, never commit it.\n"


class Refused(Exception):
    """The file at hand cannot be used for these hosts; says what to do."""


def made(names, known):
    """All secrets: the known ones as they are, new ones for the names that are missing."""
    fresh = {name: "".join(secrets.choice(ALPHABET) for _ in range(40)) for name in names if not known.get(name)}
    return {**known, **fresh}


def fingerprint_of(values):
    """Tells two sets of secrets apart, name by name, without telling a secret: they are 40 random characters."""
    return {name: hashlib.sha256(f"{name}:{values[name]}".encode()).hexdigest()[:24] for name in sorted(values)}


def disagreements(values, hosts):
    """The hosts that run other secrets than these, with the names that differ or are missing here."""
    ours = fingerprint_of(values)
    found = {}
    for host, theirs in sorted(hosts.items()):
        names = sorted(name for name in theirs if ours.get(name) != theirs[name])
        if names:
            found[host] = names
    return found


def write_new(path, text):
    """Puts the whole file in place at once, 0600; the folder is made if it is missing."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, new = tempfile.mkstemp(prefix=".secrets-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"file", "names", "hosts", "look"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        try:
            return dict(result, **self._run())
        except Refused as refused:
            return dict(result, failed=True, msg=f"PREFLIGHT: secrets_file: {refused}")

    def _run(self):
        path, names = self._task.args["file"], list(self._task.args["names"])
        known, vaulted = self._read(path)
        self._agree(path, known, self._task.args.get("hosts") or {})
        if self._task.args.get("look"):
            return {"changed": False}
        values = made(names, known)
        added = sorted(set(values) - set(known))
        if not self._task.check_mode:
            self._keep(path, values, added, vaulted)
        return {"changed": bool(added), "added": added, "secrets": values, "fingerprint": fingerprint_of(values)}

    def _keep(self, path, values, added, vaulted):
        if added:
            write_new(path, self._encoded(values, vaulted))
        elif os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o600)

    def _read(self, path):
        """The known secrets, and whether the file is encrypted."""
        if not os.path.exists(path):
            return {}, False
        with open(path, encoding="utf-8") as file:
            text = file.read()
        vaulted = text.startswith("$ANSIBLE_VAULT;")
        if vaulted:
            text = self._decrypted(path, text)
        try:
            known = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise Refused(f"{path} is not YAML") from error
        if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
            raise Refused(f"{path} must be `name: text` on every line")
        return known, vaulted

    def _decrypted(self, path, text):
        try:
            return self._loader._vault.decrypt(text.encode()).decode()
        except AnsibleError as error:
            raise Refused(
                f"{path} is encrypted and could not be opened: "
                "run with --ask-vault-pass or --vault-password-file"
            ) from error

    def _encoded(self, values, vaulted):
        text = HEADER + "".join(f"{name}: {json.dumps(value)}\n" for name, value in sorted(values.items()))
        if vaulted:
            return self._loader._vault.encrypt(text).decode()
        return text

    @staticmethod
    def _agree(path, known, hosts):
        different = disagreements(known, hosts)
        if not different:
            return
        if known:
            state = "differs from the one"
            what = "; ".join(f"{host}: {', '.join(names)}" for host, names in different.items())
        else:
            state = "is missing here; it is the one"
            what = ", ".join(different)
        raise Refused(
            f"{path} {state} these hosts were deployed with ({what}). "
            f"Copy {os.path.basename(path)} from the machine that deployed them to {path} and run again; "
            "nothing was generated. Where they are a lab that may go, `make down` removes it."
        )
