#!/usr/bin/python
"""Writes directories and files below one root: only what differs, each file replaced in one rename."""

# Runs on the servers: Python 3.8 or newer, standard library only.
from __future__ import annotations

import base64
import difflib
import grp
import os
import pwd
import shlex
import shutil
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: tree
short_description: Writes a tree of files in one call
description: Used through the action plugin of the same name, which renders the files.
options:
  root: {description: The directory everything is below., type: path, required: true}
  directories: {description: Directories with path and mode and owner and group and purge., type: list, elements: dict}
  files: {description: Files with path and content in base64 and mode and owner and group., type: list, elements: dict}
author: SecureConnect
"""


class Refused(Exception):
    """Something stands where the tree wants to write, or a validation said no."""


def uid_of(name):
    return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid


def gid_of(name):
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def lstat(path):
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def same_owner_and_mode(info, entry):
    """An owner the host does not know yet (check mode, before packages) is a difference, not an error."""
    try:
        wanted = (uid_of(entry["owner"]), gid_of(entry["group"]), int(entry["mode"], 8))
    except KeyError:
        return False
    return (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == wanted


class Tree:
    def __init__(self, root, directories, files, check_mode, run):
        self.root = root
        self.directories = directories
        self.files = files
        self.check_mode = check_mode
        self.run = run
        self.changed = []
        self.diff = []
        self.staged = []

    def apply(self):
        for entry in self.directories:
            self.directory(entry)
        try:
            for entry in self.files:
                self.stage(entry)
            for entry, new in self.staged:
                self.validate(entry, new)
            for entry, new in self.staged:
                os.replace(new, self.path(entry))
        finally:
            self.unstage()
        for entry in self.directories:
            if entry["purge"]:
                self.purge(entry)

    def path(self, entry):
        return os.path.normpath(os.path.join(self.root, entry["path"]))

    def directory(self, entry):
        path = self.path(entry)
        info = lstat(path)
        if info and not stat.S_ISDIR(info.st_mode):
            raise Refused("%s is wanted as a directory and is something else" % path)
        if info and same_owner_and_mode(info, entry):
            return
        self.note(entry["path"] + "/", "" if info else "absent", "directory %(mode)s %(owner)s:%(group)s" % entry)
        if self.check_mode:
            return
        self.make_parents(path)
        if not info:
            os.mkdir(path, 0o700)
        os.chown(path, uid_of(entry["owner"]), gid_of(entry["group"]))
        os.chmod(path, int(entry["mode"], 8))

    def make_parents(self, path):
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.make_parents(parent)
            os.mkdir(parent, 0o755)

    def stage(self, entry):
        path, content = self.path(entry), base64.b64decode(entry["content"])
        info = lstat(path)
        if info and stat.S_ISDIR(info.st_mode):
            raise Refused("%s is wanted as a file and is a directory" % path)
        before = self.read(path, info)
        if before == content and same_owner_and_mode(info, entry):
            return
        self.note_file(entry, before, content)
        if not self.check_mode:
            self.make_parents(path)
            self.staged.append((entry, self.write(path, entry, content)))

    def read(self, path, info):
        if not info or not stat.S_ISREG(info.st_mode):
            return None
        with open(path, "rb") as file:
            return file.read()

    def write(self, path, entry, content):
        handle, new = tempfile.mkstemp(prefix=".tree-", dir=os.path.dirname(path))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchown(handle, uid_of(entry["owner"]), gid_of(entry["group"]))
                os.fchmod(handle, int(entry["mode"], 8))
                file.flush()
                os.fsync(handle)
        except BaseException:
            os.unlink(new)
            raise
        return new

    def validate(self, entry, new):
        if not entry["validate"]:
            return
        code, out, err = self.run([part.replace("%s", new) for part in shlex.split(entry["validate"])])
        if code != 0:
            raise Refused("%s would not be valid: %s" % (self.path(entry), (err or out).strip()))

    def unstage(self):
        for _entry, new in self.staged:
            if os.path.exists(new):
                os.unlink(new)

    def purge(self, entry):
        directory = self.path(entry)
        wanted = {self.path(other) for other in self.files + self.directories}
        for name in sorted(os.listdir(directory) if os.path.isdir(directory) else []):
            path = os.path.join(directory, name)
            if path in wanted or any(other.startswith(path + "/") for other in wanted):
                continue
            self.note(os.path.relpath(path, self.root), "present", "absent")
            if not self.check_mode:
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def note(self, path, before, after):
        self.changed.append(path)
        self.diff.append({"prepared": "%s: %s\n" % (os.path.join(self.root, path), " -> ".join(filter(None, [before, after])))})

    def note_file(self, entry, before, content):
        path = self.path(entry)
        self.changed.append(entry["path"])
        if before == content:
            text = "%s: owner or mode -> %s %s:%s\n" % (path, entry["mode"], entry["owner"], entry["group"])
        elif entry["secret"]:
            text = "%s: content differs (hidden)\n" % path
        else:
            text = unified(path, before or b"", content)
        self.diff.append({"prepared": text})


def unified(path, before, after):
    old, new = (text.decode("utf-8", "replace").splitlines(True) for text in (before, after))
    return "".join(difflib.unified_diff(old, new, path + " (is)", path + " (wanted)"))


def main():
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "directories": {"type": "list", "elements": "dict", "default": []},
            "files": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
        no_log=True,  # the invocation would go to the journal with every content
    )
    tree = Tree(module.params["root"], module.params["directories"], module.params["files"], module.check_mode, module.run_command)
    result = {"invocation": {}}
    try:
        tree.apply()
    except Refused as refused:
        module.fail_json(msg=str(refused), **result)
    result.update(changed=bool(tree.changed), changed_files=tree.changed)
    if module._diff:
        result["diff"] = tree.diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
