from __future__ import annotations

import os
import stat
import tempfile
import unittest

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

    def test_the_file_is_for_its_owner_alone_and_replaced_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "new", "secrets.yml")
            secrets.write_new(path, "a: 1\n")
            secrets.write_new(path, "a: 2\n")
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            self.assertEqual(os.listdir(os.path.dirname(path)), ["secrets.yml"])
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), "a: 2\n")


if __name__ == "__main__":
    unittest.main()
