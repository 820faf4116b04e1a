"""Renders a tree of files on the controller and has the `tree` module write it in one remote call.

    tree:
      root: /opt/secureconnect/db
      directories:
        - {path: redis, mode: "0750", group: 9003, purge: true}
      files:
        - {path: redis/redis.conf, template: redis.conf.j2, mode: "0640", group: 9003}
        - {path: secrets/redis/redis_auth.conf, content: "…", mode: "0400", owner: 9003, group: 9003, secret: true}

A file has one of `template` (from the role's templates), `content` or `source` (from the role's files, byte
by byte). `secret` keeps its content out of every diff. `validate` is a command with %s for the new file; all
are run before the first file is replaced. `purge` removes from a directory the entries that are not named.
The answer holds `checksum` (of everything wanted, also in check mode), `checksums` (path by path) and
`changed_files`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

FILE_KEYS = {"path", "template", "content", "source", "mode", "owner", "group", "secret", "validate"}
DIRECTORY_KEYS = {"path", "mode", "owner", "group", "purge"}


def one_entry(entry, allowed, default_mode):
    """An entry with its defaults; an unknown key is a spelling mistake and refused."""
    unknown = set(entry) - allowed
    if unknown or not entry.get("path"):
        raise AnsibleActionFail(f"tree: {entry.get('path', '(no path)')}: unknown key or no path: {sorted(unknown)}")
    path = os.path.normpath(entry["path"])
    if os.path.isabs(path) or path.split("/")[0] == "..":
        raise AnsibleActionFail(f"tree: {path} leaves the root")
    wanted = {"path": path, "mode": str(entry.get("mode", default_mode))}
    for key in ("owner", "group"):
        wanted[key] = str(entry.get(key, "root"))
    int(wanted["mode"], 8)
    return wanted


def checksum_of(entries):
    """One number for everything wanted: paths, modes, owners and contents."""
    text = json.dumps(sorted(entries, key=lambda entry: entry["path"]), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"root", "files", "directories"})

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        args = self._task.args
        root = args.get("root") or ""
        if set(args) - self._VALID_ARGS or not os.path.isabs(root):
            raise AnsibleActionFail("tree: wants an absolute root, and files and directories")
        directories = [self._directory(entry) for entry in args.get("directories") or []]
        files = [self._file(entry, task_vars or {}) for entry in args.get("files") or []]

        result = self._execute_module(
            module_name="tree",
            module_args={"root": root, "directories": directories, "files": files},
            task_vars=task_vars,
        )
        # -v prints the invocation: it must not hold contents.
        result["invocation"] = {"module_args": {"root": root, "files": [entry["path"] for entry in files]}}
        result["checksum"] = checksum_of(directories + files)
        result["checksums"] = {entry["path"]: checksum_of([entry]) for entry in files}
        return result

    def _directory(self, entry):
        return dict(one_entry(entry, DIRECTORY_KEYS, "0755"), purge=bool(entry.get("purge")))

    def _file(self, entry, task_vars):
        wanted = one_entry(entry, FILE_KEYS, "0644")
        kinds = [kind for kind in ("template", "content", "source") if entry.get(kind) is not None]
        if len(kinds) != 1:
            raise AnsibleActionFail(f"tree: {wanted['path']} wants one of template, content, source")
        content = getattr(self, "_" + kinds[0])(entry[kinds[0]], task_vars)
        return dict(
            wanted,
            content=base64.b64encode(content).decode(),
            secret=bool(entry.get("secret")),
            validate=entry.get("validate") or "",
        )

    def _content(self, content, task_vars):
        del task_vars
        return str(content).encode()

    def _source(self, name, task_vars):
        del task_vars
        with open(self._needle("files", name), "rb") as file:
            return file.read()

    def _template(self, name, task_vars):
        path = self._needle("templates", name)
        with open(path, encoding="utf-8") as file:
            text = trust_as_template(file.read())
        folders = [*task_vars.get("ansible_search_path", []), os.path.dirname(path)]
        search = [place for folder in folders for place in (os.path.join(folder, "templates"), folder)]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=task_vars)
        rendered = templar.template(
            text, escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True}
        )
        return ("" if rendered is None else str(rendered)).encode()

    def _needle(self, folder, name):
        try:
            return self._find_needle(folder, name)
        except AnsibleError as error:
            raise AnsibleActionFail(f"tree: {error}") from error
