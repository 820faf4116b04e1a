"""The passwords of a deployment: one file beside its inventory, made once, added to, and rotated where that is possible.

`hosts` are the fingerprints the hosts keep of the secrets they run. If they were made with another file than
the one here, or with one that is missing here, nothing is generated: the answer names the file to copy. `look`
does no more than that, and its answer holds no secret.
The file may be encrypted with ansible-vault; what is written is then encrypted under the same password.

`rotate` makes NAME new and keeps the old one as NAME_previous, which is accepted beside it until `retire` takes it away.
NAME_before, in the file and on the hosts, are fingerprints of what NAME was: they tell a host that is to be brought up
to date from one that is somebody else's, and an old copy of the file from a strange one. `retire` looks at what the
services run, `running`, as `stat` describes their file on each host, and wants that it has been there for `patience`
seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import string
import tempfile
import time

import yaml

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

ALPHABET = string.ascii_letters + string.digits
HEADER = "# The passwords of this deployment. Keep this file, back it up, never commit it.\n"


class Refused(Exception):
    """The file at hand cannot be used for these hosts; says what to do."""


PREVIOUS, BEFORE = "_previous", "_before"
REMEMBERED = 8  # rotations


def new_secret():
    return "".join(secrets.choice(ALPHABET) for _ in range(40))


def made(names, known):
    """All secrets: the known ones as they are, new ones for the names that are missing."""
    return {**known, **{name: new_secret() for name in names if not known.get(name)}}


def print_of(name, value):
    return hashlib.sha256(f"{name}:{value}".encode()).hexdigest()[:24]


def fingerprint_of(values):
    """Tells two sets of secrets apart, name by name, without telling a secret: they are 40 random characters."""
    return {name: value if name.endswith(BEFORE) else print_of(name, value) for name, value in sorted(values.items())}


def was(values, name):
    """The fingerprints of what a secret was before, the latest first."""
    return values.get(name + BEFORE, "").split()


# --- Rotating ---------------------------------------------------------------------------------------------


def rotated(values, name):
    """The same with a new secret of this name, and the old one beside it."""
    if not values.get(name):
        raise Refused(f"there is no {name} to rotate yet: the first apply makes it")
    if values.get(name + PREVIOUS):
        raise Refused(f"{name} is being rotated already: apply, retire the old one, apply, and then rotate again")
    before = [print_of(name, values[name])] + was(values, name)
    return {
        **values,
        name: new_secret(),
        name + PREVIOUS: values[name],
        name + BEFORE: " ".join(before[:REMEMBERED]),
    }


def retired(values, name):
    """The same without the old secret of this name."""
    if not values.get(name + PREVIOUS):
        raise Refused(f"{name} is not being rotated: there is no {name}{PREVIOUS} to retire")
    return {other: value for other, value in values.items() if other != name + PREVIOUS}


def unready(values, name, running, patience, now):
    """Why the old secret of this name is still needed, host by host."""
    checksum = hashlib.sha256(values[name].encode()).hexdigest()
    for host, its in sorted(running.items()):
        if its.get("checksum") != checksum:
            yield f"{host} still runs the old {name}: apply first"
        elif now - its["mtime"] < patience:
            wait = int(patience - (now - its["mtime"])) + 1
            yield f"{host} gave out credentials of the old {name} until lately, and some are good for {wait} s more"


# --- The hosts' fingerprints ------------------------------------------------------------------------------


def differing(ours, theirs):
    """The names by which a host runs other secrets than these; not those that these have replaced."""
    for name, value in sorted(theirs.items()):
        if name.endswith((BEFORE, PREVIOUS)):
            continue  # they go with the secret itself
        if ours.get(name) != value and value not in was(ours, name):
            yield name


def outdated(ours, theirs):
    """The names that were rotated, or whose rotation was ended, since these secrets were copied."""
    for name in ours:
        passed = ours[name] in was(theirs, name)
        ended = name + PREVIOUS in ours and ours[name] == theirs.get(name) and name + PREVIOUS not in theirs
        if passed or ended:
            yield name


def disagreements(values, hosts):
    """The hosts that run other secrets than these, with the names that differ or are missing here."""
    ours = fingerprint_of(values)
    found = {host: list(differing(ours, theirs)) for host, theirs in sorted(hosts.items())}
    return {host: names for host, names in found.items() if names}


def advances(values, hosts):
    """The hosts that run later secrets than these, with the names."""
    ours = fingerprint_of(values)
    found = {host: list(outdated(ours, theirs)) for host, theirs in sorted(hosts.items())}
    return {host: names for host, names in found.items() if names}


# --- The file ---------------------------------------------------------------------------------------------


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
    _VALID_ARGS = frozenset({"file", "names", "hosts", "look", "rotate", "retire", "running", "patience"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        try:
            return dict(result, **self._run())
        except Refused as refused:
            return dict(result, failed=True, msg=f"PREFLIGHT: secrets_file: {refused}")

    def _run(self):
        args = self._task.args
        path = args["file"]
        known, vaulted = self._read(path)
        self._agree(path, known, args.get("hosts") or {})
        if args.get("look"):
            return {"changed": False}
        if args.get("rotate"):
            return self._replace(path, rotated(known, args["rotate"]), vaulted)
        if args.get("retire"):
            return self._retire(path, known, vaulted)
        values = made(args["names"], known)
        added = sorted(set(values) - set(known))
        if not self._task.check_mode:
            self._keep(path, values, added, vaulted)
        return {"changed": bool(added), "added": added, "secrets": values, "fingerprint": fingerprint_of(values)}

    def _retire(self, path, known, vaulted):
        args = self._task.args
        name = args["retire"]
        values = retired(known, name)
        reasons = list(unready(known, name, args.get("running") or {}, args.get("patience") or 0, time.time()))
        if reasons:
            raise Refused(f"{'; '.join(reasons)}. Nothing was changed; with --at-once it is retired all the same")
        return self._replace(path, values, vaulted)

    def _replace(self, path, values, vaulted):
        """The answer holds no secret."""
        if not self._task.check_mode:
            write_new(path, self._encoded(values, vaulted))
        return {"changed": True}

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
        text = HEADER + "".join(_line(name, value) for name, value in sorted(values.items()))
        if vaulted:
            return self._loader._vault.encrypt(text).decode()
        return text

    @staticmethod
    def _agree(path, known, hosts):
        later = advances(known, hosts)
        if later:
            raise Refused(
                f"{path} is older than what these hosts run ({_named(later)}): somebody has rotated it since. "
                f"Copy {os.path.basename(path)} from the machine where that was done to {path} and run again; "
                "nothing was changed."
            )
        different = disagreements(known, hosts)
        if not different:
            return
        if known:
            state = "differs from the one"
            what = _named(different)
        else:
            state = "is missing here; it is the one"
            what = ", ".join(different)
        raise Refused(
            f"{path} {state} these hosts were deployed with ({what}). "
            f"Copy {os.path.basename(path)} from the machine that deployed them to {path} and run again; "
            "nothing was generated. Where they are a lab that may go, `make down` removes it."
        )


def _line(name, value):
    said = "# No secret: fingerprints of what it was before.\n" if name.endswith(BEFORE) else ""
    return f"{said}{name}: {json.dumps(value)}\n"


def _named(hosts):
    return "; ".join(f"{host}: {', '.join(names)}" for host, names in hosts.items())
