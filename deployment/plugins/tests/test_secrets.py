from __future__ import annotations

import os
import stat
import tempfile
import types
import unittest

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret

from plugins import load

secrets = load("action", "secrets")


class SecretsTest(unittest.TestCase):
    def test_known_ones_stay_and_missing_ones_are_made(self):
        values = secrets.made(["a", "b"], {"a": "kept", "old": "kept too"})
        self.assertEqual((values["a"], values["old"]), ("kept", "kept too"))
        self.assertRegex(values["b"], "^[A-Za-z0-9]{40}$")
        self.assertNotEqual(values["b"], secrets.made(["b"], {})["b"])

    def test_a_fingerprint_tells_apart_without_telling(self):
        values = secrets.made(["a"], {})
        print_of = secrets.fingerprint_of(values)
        self.assertEqual(print_of, secrets.fingerprint_of(values))
        self.assertNotIn(values["a"], str(print_of))
        self.assertNotEqual(print_of, secrets.fingerprint_of(secrets.made(["a"], {})))

    def test_hosts_that_run_other_secrets_are_named(self):
        mine = {"a": "1", "b": "2", "new": "3"}
        hosts = {
            "fresh": {},
            "same": secrets.fingerprint_of({"a": "1", "b": "2"}),
            "other": secrets.fingerprint_of({"a": "1", "b": "9"}),
        }
        self.assertEqual(secrets.disagreements(mine, hosts), {"other": ["b"]})
        self.assertEqual(secrets.disagreements({}, {"same": hosts["same"]}), {"same": ["a", "b"]})


class RotationTest(unittest.TestCase):
    def setUp(self):
        self.first = {"other": "1", "turn_secret": "one"}
        self.second = secrets.rotated(self.first, "turn_secret")
        self.third = secrets.retired(self.second, "turn_secret")
        self.fourth = secrets.rotated(self.third, "turn_secret")

    def judged(self, values, host):
        """How a file fares with a host that runs what another file has."""
        hosts = {"app-01": secrets.fingerprint_of(host)}
        later, foreign = secrets.advances(values, hosts), secrets.disagreements(values, hosts)
        return "older" if later else "foreign" if foreign else "right"

    def test_the_old_one_stays_beside_the_new_one_until_it_is_retired(self):
        self.assertEqual(self.second["turn_secret_previous"], "one")
        self.assertRegex(self.second["turn_secret"], "^[A-Za-z0-9]{40}$")
        self.assertEqual(self.third["turn_secret"], self.second["turn_secret"])
        self.assertNotIn("turn_secret_previous", self.third)
        self.assertEqual({values["other"] for values in (self.second, self.third)}, {"1"})

    def test_one_rotation_at_a_time(self):
        for values, step in (
            (self.second, secrets.rotated),
            ({}, secrets.rotated),
            (self.first, secrets.retired),
            (self.third, secrets.retired),
        ):
            with self.assertRaises(secrets.Refused):
                step(values, "turn_secret")

    def test_hosts_that_are_behind_are_brought_up_to_date(self):
        order = [self.first, self.second, self.third, self.fourth]
        for i, values in enumerate(order):
            for host in order[: i + 1]:
                self.assertEqual(self.judged(values, host), "right", f"{values} with {host}")

    def test_a_copy_from_before_is_told_from_a_foreign_one(self):
        order = [self.first, self.second, self.third, self.fourth]
        for i, values in enumerate(order):
            for host in order[i + 1:]:
                self.assertEqual(self.judged(values, host), "older", f"{values} with {host}")

    def test_another_rotation_of_the_same_is_foreign(self):
        self.assertEqual(self.judged(self.second, secrets.rotated(self.first, "turn_secret")), "foreign")
        self.assertEqual(self.judged(self.second, {"other": "1", "turn_secret": "two"}), "foreign")
        self.assertEqual(self.judged(dict(self.second, other="2"), self.first), "foreign")

    def test_so_many_rotations_are_remembered(self):
        values = self.fourth
        for _ in range(20):
            values = secrets.rotated(secrets.retired(values, "turn_secret"), "turn_secret")
        self.assertEqual(len(secrets.was(values, "turn_secret")), secrets.REMEMBERED)

    def test_the_old_one_is_needed_until_its_credentials_have_ended(self):
        def waiting(running):
            return list(secrets.unready(self.second, "turn_secret", running, 600, 1000.0))

        new = secrets.hashlib.sha256(self.second["turn_secret"].encode()).hexdigest()
        old = secrets.hashlib.sha256(b"one").hexdigest()
        self.assertEqual(waiting({"app-01": {"checksum": new, "mtime": 400.0}}), [])
        self.assertIn("good for 101 s more", waiting({"app-01": {"checksum": new, "mtime": 500.0}})[0])
        for behind in ({"checksum": old, "mtime": 1.0}, {"exists": False}):
            self.assertIn("app-01 still runs the old", waiting({"app-01": behind})[0])


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "new", "secrets.yml")

    def text(self):
        with open(self.path, encoding="utf-8") as file:
            return file.read()

    def act(self, vault=None, check=False, **args):
        action = secrets.ActionModule.__new__(secrets.ActionModule)
        action._task = types.SimpleNamespace(args=dict(args, file=self.path), check_mode=check)
        action._loader = types.SimpleNamespace(_vault=vault)
        return action._run()

    def test_the_file_is_for_its_owner_alone_and_replaced_whole(self):
        secrets.write_new(self.path, "a: 1\n")
        secrets.write_new(self.path, "a: 2\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["secrets.yml"])
        self.assertEqual(self.text(), "a: 2\n")

    def test_a_rotation_is_written_and_answers_no_secret(self):
        self.act(names=["turn_secret"])
        before = self.act(names=["turn_secret"])["secrets"]["turn_secret"]
        self.assertEqual(self.act(rotate="turn_secret", check=True), {"changed": True})
        self.assertEqual(self.act(names=["turn_secret"])["secrets"], {"turn_secret": before})
        self.assertEqual(self.act(rotate="turn_secret"), {"changed": True})
        os.chmod(self.path, 0o644)
        after = self.act(names=["turn_secret"])
        self.assertEqual(after["secrets"]["turn_secret_previous"], before)
        self.assertFalse(after["changed"])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        with self.assertRaises(secrets.Refused) as refused:
            self.act(retire="turn_secret", running={"app-01": {"exists": False}}, patience=600)
        self.assertNotIn(before, str(refused.exception))
        self.assertEqual(self.act(retire="turn_secret"), {"changed": True})
        self.assertNotIn(before, self.text())

    def test_an_encrypted_file_stays_encrypted(self):
        vault = VaultLib([("default", VaultSecret(b"open sesame"))])
        secrets.write_new(self.path, vault.encrypt("turn_secret: planted\n").decode())
        for step in ({"names": ["turn_secret", "more"]}, {"rotate": "turn_secret"}, {"retire": "turn_secret"}):
            self.act(vault=vault, **step)
            self.assertTrue(self.text().startswith("$ANSIBLE_VAULT;"))
        kept = secrets.yaml.safe_load(vault.decrypt(self.text().encode()))
        self.assertNotEqual(kept["turn_secret"], "planted")
        with self.assertRaises((secrets.Refused, AnsibleError)):
            self.act(vault=VaultLib([("default", VaultSecret(b"another"))]), rotate="turn_secret")


if __name__ == "__main__":
    unittest.main()
