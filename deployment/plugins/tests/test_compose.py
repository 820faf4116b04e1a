from __future__ import annotations

import re
import unittest

import yaml

from plugins import FOLDER

ROOT = FOLDER.parent.parent


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


class ComposeTest(unittest.TestCase):
    def setUp(self):
        self.wiring = yaml.safe_load(read("group_vars/all/wiring.yml"))

    def test_every_value_that_a_project_asks_for_is_given(self):
        for project in ("db", "storage", "app", "lb"):
            text = read(f"deployment/compose/{project}.yml")
            self.assertIn("services", yaml.safe_load(text))
            asked = set(re.findall(r"\$\{(\w+)", text))
            self.assertGreater(len(asked), 1)
            self.assertEqual(asked - set(self.wiring[f"env_{project}"]), set(), project)

    def test_what_is_on_the_hosts_own_loopback_is_looked_for_before(self):
        services = yaml.safe_load(read("deployment/compose/app.yml"))["services"]
        published = {int(port.split(":")[1]) for one in services.values() for port in one.get("ports", []) if port.startswith("127.")}
        own = {
            int(one["environment"]["METRICS_LISTEN"].rpartition(":")[2])
            for one in services.values()
            if one.get("network_mode") == "host"
        }
        self.assertEqual(published | own, {entry["port"] for entry in self.wiring["loopback_ports"]})


if __name__ == "__main__":
    unittest.main()
