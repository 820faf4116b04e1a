from __future__ import annotations

import base64
import os
import pathlib
import stat
import tempfile
import unittest

from ansible.errors import AnsibleActionFail

from plugins import load

action = load("action", "tree")
module = load("modules", "tree")

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


def file(path, content, **more):
    wanted = {"path": path, "mode": "0640", "secret": False, "validate": "", **ME, **more}
    return dict(wanted, content=base64.b64encode(content.encode()).decode())


def directory(path, **more):
    return {"path": path, "mode": "0750", "purge": False, **ME, **more}


class TreeTest(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.root = pathlib.Path(held.name)
        self.validations = []
        self.verdict = 0

    def run_command(self, argv):
        self.validations.append(argv)
        return self.verdict, "", "line 3 is wrong"

    def apply(self, files, directories=(), check_mode=False):
        tree = module.Tree(str(self.root), list(directories), list(files), check_mode, self.run_command)
        tree.apply()
        return tree

    def test_writes_content_and_mode_and_then_nothing(self):
        wanted = [file("a/b.conf", "one\n")], [directory("a")]
        self.assertEqual(self.apply(*wanted).changed, ["a/", "a/b.conf"])
        self.assertEqual((self.root / "a/b.conf").read_text(), "one\n")
        self.assertEqual(stat.S_IMODE((self.root / "a/b.conf").stat().st_mode), 0o640)
        self.assertEqual(self.apply(*wanted).changed, [])

    def test_repairs_content_and_mode_changed_by_hand(self):
        wanted = [file("a.conf", "one\n"), file("b.conf", "two\n")]
        self.apply(wanted)
        (self.root / "a.conf").write_text("other\n")
        (self.root / "b.conf").chmod(0o777)
        self.assertEqual(self.apply(wanted).changed, ["a.conf", "b.conf"])
        self.assertEqual((self.root / "a.conf").read_text(), "one\n")
        self.assertEqual(stat.S_IMODE((self.root / "b.conf").stat().st_mode), 0o640)

    def test_a_check_says_what_would_change_and_leaves_it(self):
        tree = self.apply([file("a/b.conf", "one\n")], [directory("a", purge=True)], check_mode=True)
        self.assertEqual(tree.changed, ["a/", "a/b.conf"])
        self.assertEqual(list(self.root.iterdir()), [])

    def test_a_check_does_not_stumble_over_an_owner_the_host_lacks_yet(self):
        (self.root / "a.conf").write_text("one\n")
        tree = self.apply([file("a.conf", "one\n", owner="nobody-has-this-name")], check_mode=True)
        self.assertEqual(tree.changed, ["a.conf"])

    def test_one_refused_file_keeps_all_as_they_were(self):
        self.apply([file("a.conf", "old\n"), file("b.conf", "old\n")])
        self.verdict = 1
        with self.assertRaises(module.Refused) as refused:
            self.apply([file("a.conf", "new\n"), file("b.conf", "new\n", validate="daemon --test %s")])
        self.assertIn("line 3 is wrong", str(refused.exception))
        self.assertEqual(self.validations[0][:2], ["daemon", "--test"])
        self.assertEqual((self.root / "a.conf").read_text(), "old\n")
        self.assertEqual(sorted(path.name for path in self.root.iterdir()), ["a.conf", "b.conf"])

    def test_purge_removes_what_is_not_named(self):
        self.apply([file("conf.d/a/x", "1"), file("conf.d/gone", "1"), file("conf.d/old/y", "1"), file("other", "1")])
        tree = self.apply([file("conf.d/a/x", "1")], [directory("conf.d", mode="0755", purge=True)])
        self.assertEqual(tree.changed, ["conf.d/gone", "conf.d/old"])
        self.assertTrue((self.root / "conf.d/a/x").exists())
        self.assertTrue((self.root / "other").exists())

    def test_a_link_is_replaced_and_not_followed(self):
        target = self.root / "precious"
        target.write_text("keep\n")
        (self.root / "a.conf").symlink_to(target)
        self.apply([file("a.conf", "one\n")])
        self.assertEqual(target.read_text(), "keep\n")
        self.assertFalse((self.root / "a.conf").is_symlink())

    def test_the_diff_shows_a_file_and_hides_a_secret(self):
        tree = self.apply([file("a.conf", "shown\n"), file("key", "hunter2\n", secret=True)])
        text = "".join(change["prepared"] for change in tree.diff)
        self.assertIn("+shown", text)
        self.assertNotIn("hunter2", text)
        self.assertIn("content differs (hidden)", text)


class EntryTest(unittest.TestCase):
    def test_refuses_to_leave_the_root_and_unknown_keys(self):
        for entry in ({"path": "../etc/passwd"}, {"path": "a/../../b"}, {"path": "/etc"}, {"path": "a", "modes": "0600"}, {}):
            with self.subTest(entry), self.assertRaises(AnsibleActionFail):
                action.one_entry(entry, action.FILE_KEYS, "0644")

    def test_the_checksum_sees_every_property_and_no_order(self):
        one, two = {"path": "a", "mode": "0640", "content": "x"}, {"path": "b", "mode": "0640", "content": "y"}
        before = action.checksum_of([one, two])
        self.assertEqual(before, action.checksum_of([two, one]))
        for change in ({"mode": "0600"}, {"content": "z"}, {"path": "c"}):
            self.assertNotEqual(before, action.checksum_of([dict(one, **change), two]))


if __name__ == "__main__":
    unittest.main()
