from __future__ import annotations

import pathlib
import tempfile
import unittest

from plugins import load

rules = load("action", "preflight")
wiring = load("filter", "wiring")

KNOWN = {"addresses", "https_port", "edge_waf"}
GROUPS = {
    "secureconnect": ["lb-01", "app-01", "app-02", "db-01", "storage-01"],
    "lb": ["lb-01"],
    "app": ["app-01", "app-02"],
    "db": ["db-01"],
    "storage": ["storage-01"],
}
ADDRESSES = {name: f"10.0.0.{number}" for number, name in enumerate(GROUPS["secureconnect"], 10)}


class FilesTest(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.inventory = pathlib.Path(held.name)

    def problems(self, **files):
        for name, text in files.items():
            path = self.inventory / name.replace("__", "/")
            path = path.with_name(path.name + ".yml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return "\n".join(rules.file_problems(str(self.inventory), KNOWN))

    def test_right_files_pass(self):
        self.assertEqual(
            self.problems(
                hosts="secureconnect: {vars: {ansible_user: root}, children: {lb: {hosts: {lb-01: }}}}",
                group_vars__secureconnect="https_port: 443\nansible_port: 22\n",
            ),
            "",
        )

    def test_a_misspelt_variable_is_named_with_the_nearest(self):
        found = self.problems(group_vars__secureconnect="htps_port: 443\nzzz: 1\n")
        self.assertIn("htps_port is not a variable; did you mean https_port?", found)
        self.assertIn("zzz is not a variable of this deployment", found)

    def test_variables_in_hosts_are_looked_at_too(self):
        found = self.problems(hosts="secureconnect: {children: {lb: {hosts: {lb-01: {edge_wav: block}}}}}")
        self.assertIn("did you mean edge_waf?", found)

    def test_a_folder_of_variables_is_looked_at(self):
        found = self.problems(group_vars__secureconnect__one="htps_port: 443\n")
        self.assertIn("did you mean https_port?", found)

    def test_variables_that_would_have_no_effect_are_refused(self):
        for place in ("group_vars__all", "group_vars__all__x", "group_vars__lb"):
            with self.subTest(place):
                self.assertIn("write it in group_vars/secureconnect.yml", self.problems(**{place: "https_port: 1\n"}))

    def test_a_key_that_stands_twice_and_what_is_no_mapping_are_refused(self):
        self.assertIn("https_port stands there twice", self.problems(group_vars__secureconnect="https_port: 1\nhttps_port: 2\n"))
        self.assertIn("must be `name: value`", self.problems(group_vars__secureconnect="- https_port\n"))


class ValuesTest(unittest.TestCase):
    def test_groups(self):
        self.assertEqual(rules.group_problems(GROUPS), [])
        self.assertIn("hosts.yml: the group db has no host", rules.group_problems(dict(GROUPS, db=[])))
        self.assertIn("the group lb has 2 hosts", " ".join(rules.group_problems(dict(GROUPS, lb=["lb-01", "app-01"]))))
        self.assertIn(
            "hosts.yml: x is in none of lb, app, db, storage",
            rules.group_problems(dict(GROUPS, secureconnect=[*GROUPS["secureconnect"], "x"])),
        )

    def addresses(self, public=None, **changed):
        values = {"addresses": {**ADDRESSES, **{k.replace("_", "-"): v for k, v in changed.items()}}, "public_addresses": public or {}}
        return "\n".join(rules.address_problems(values, GROUPS, ["172.30.0.0/16"]))

    def test_addresses(self):
        self.assertEqual(self.addresses(), "")
        self.assertIn("10.0.0.10 is given to app-01 and lb-01", self.addresses(app_01="10.0.0.10"))
        self.assertIn("'10.0.0' is not an IPv4 address", self.addresses(db_01="10.0.0"))
        self.assertIn("lies in 172.30.0.0/16", self.addresses(db_01="172.30.0.9"))
        self.assertIn("public_addresses: lb-1 is not in hosts.yml; did you mean lb-01?", self.addresses({"lb-1": "1.2.3.4"}))

    def test_a_host_without_an_address(self):
        values = {"addresses": {k: v for k, v in ADDRESSES.items() if k != "db-01"}, "public_addresses": {}}
        self.assertEqual(rules.address_problems(values, GROUPS, []), ["addresses: db-01 of hosts.yml has no address"])

    def test_networks(self):
        self.assertEqual(rules.network_problems(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]), [])
        self.assertIn("is empty", rules.network_problems([])[0])
        self.assertIn("10.0.0.1/8", rules.network_problems(["10.0.0.1/8"])[0])

    def test_the_edge_must_be_chosen_and_its_files_exist(self):
        values = {"edge_tls": "", "public_domain": "example.com", "edge_certificate_file": "/nowhere", "edge_certificate_key_file": ""}
        self.assertIn("edge_tls: must be chosen", rules.edge_problems(values)[0])
        found = rules.edge_problems(dict(values, edge_tls="provided", public_domain="no domain"))
        self.assertEqual([line.split(":")[0] for line in found], ["edge_certificate_file", "edge_certificate_key_file", "public_domain"])

    def test_images(self):
        values = {"image_sources": {}, "sql_engine": "postgresql"}
        built = {"sql": "build", "redis": "build"}
        self.assertEqual(rules.image_problems(values, built, {}, ["sql", "redis"]), [])
        self.assertIn("cockroachdb cannot be built", rules.image_problems(dict(values, sql_engine="cockroachdb"), built, {}, ["sql"])[0])
        self.assertIn("no image for redis", rules.image_problems(values, dict(built, redis="registry"), {}, ["sql", "redis"])[0])
        self.assertIn("did you mean sql?", rules.image_problems(dict(values, image_sources={"sqll": "build"}), built, {}, ["sql"])[0])

    def test_ports_that_collide_on_one_host(self):
        table = [
            {"name": "media", "group": "app", "proto": "udp", "port": 50000},
            {"name": "relay", "group": "storage", "proto": "udp", "port": "49152-57343"},
        ]
        self.assertEqual(rules.port_problems(table, GROUPS), [])
        together = {group: ["node-01"] for group in GROUPS}
        self.assertIn("media_port: 50000/udp is also relay_port_min, relay_port_max on node-01", rules.port_problems(table, together))
        for port in ("0", "70000", "200-100"):
            with self.subTest(port):
                self.assertIn("not a port", rules.port_problems([dict(table[0], port=port)], {})[0])

    def test_every_allocation_has_a_port(self):
        values = {"relay_port_min": 49152, "relay_port_max": 57343, "coturn_total_quota": 8192}
        self.assertEqual(list(rules.relay_problems(values)), [])
        (problem,) = rules.relay_problems(dict(values, coturn_total_quota=8193))
        self.assertIn("coturn_total_quota", problem)

    def test_types(self):
        off = {"type": "str", "choices": ["", "off", "block"]}
        self.assertEqual(rules.typed("edge_waf", off, False), "off")
        self.assertEqual(rules.typed("https_port", {"type": "int"}, "443"), 443)
        for name, option, value in (("edge_waf", off, "blok"), ("https_port", {"type": "int"}, "eighty"), ("addresses", {"type": "dict"}, [1])):
            with self.subTest(name), self.assertRaises(ValueError):
                rules.typed(name, option, value)


class HostsTest(unittest.TestCase):
    FACTS = {
        "distribution": "debian", "release": "13", "python": "3.13.5", "systemd": True, "uid": 0, "memory_mb": 4000,
        "disk_free_mb": 9000, "address_held": True, "addresses": ["10.0.0.13"], "clock_skew_ms": 0, "ports_taken": [],
        "session": {"source": "10.0.0.1", "port": 22},
    }
    LIMITS = {
        "address": "10.0.0.13", "ssh_port": 22, "admin_networks": ["10.0.0.1/32"], "memory_min_mb": 1800,
        "memory_needed_mb": 3000, "disk_free_mb": 5000,
    }

    def problems(self, limits=None, **facts):
        return rules.host_problems("db-01", {**self.FACTS, **facts}, {**self.LIMITS, **(limits or {})})

    def test_a_right_host_passes(self):
        self.assertEqual(self.problems(), [])

    def test_each_cause_is_named(self):
        cases = {
            "runs debian 11": {"release": "11"},
            "Python is 3.7.3": {"python": "3.7.3"},
            "does not run systemd": {"systemd": False},
            "ansible_user": {"uid": 1000},
            "host_memory_min_mb": {"memory_mb": 1000, "limits": {"memory_needed_mb": 0}},
            "sql_memory_mb": {"memory_mb": 2000},
            "disk_free_mb": {"disk_free_mb": 10},
            "is not an address of this host": {"address_held": False},
            "its clock is 501 ms off": {"clock_skew_ms": 501},
            "its clock is -900 ms off": {"clock_skew_ms": -900},
            "port 443/tcp is taken by apache2": {"ports_taken": [{"proto": "tcp", "port": 443, "process": "apache2", "pid": "7"}]},
            "admin_networks: we come from 192.0.2.1": {"session": {"source": "192.0.2.1", "port": 22}},
            "ssh_port: is 22, and its sshd listens on 2222": {"session": {"source": "10.0.0.1", "port": 2222}},
        }
        for cause, facts in cases.items():
            with self.subTest(cause):
                found = self.problems(**facts)
                self.assertEqual(len(found), 1, found)
                self.assertIn(cause, found[0])
                self.assertTrue(found[0].startswith("db-01: "))

    def test_a_connection_that_is_not_ssh_has_no_source_to_lock_out(self):
        self.assertEqual(self.problems(session=None), [])


class WiringTest(unittest.TestCase):
    def test_a_host_keeps_larger_kernel_settings(self):
        live = {"rmem": "212992", "wmem": "8388608", "other": "1"}
        wanted = {"rmem": 4194304, "wmem": 4194304, "absent": 7}
        self.assertEqual(wiring.at_least(live, wanted), {"rmem": "4194304", "wmem": "8388608", "absent": "7"})

    def test_a_folder_has_one_checksum_of_its_own(self):
        files = {"secrets/a/x": "1", "secrets/a/y": "2", "secrets/ab/x": "3"}
        mine = wiring.below(files, "secrets/a")
        self.assertEqual(mine, wiring.below(dict(files, **{"secrets/ab/x": "4"}), "secrets/a"))
        self.assertNotEqual(mine, wiring.below(dict(files, **{"secrets/a/y": "3"}), "secrets/a"))
        followed = wiring.below(files, "secrets/a", ["y"])
        self.assertEqual(followed, wiring.below(dict(files, **{"secrets/a/y": "3"}), "secrets/a", ["y"]))
        self.assertNotEqual(followed, wiring.below(dict(files, **{"secrets/a/x": "3"}), "secrets/a", ["y"]))

    def test_overlapping_networks_are_joined_family_by_family(self):
        joined = wiring.collapsed(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::1", "192.0.2.7"])
        self.assertEqual(joined, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"])

    def test_an_image_shared_by_two_parts_is_carried_once(self):
        refs = {"auth": "s:1", "gateway": "s:1", "redis": "r:1"}
        self.assertEqual(wiring.parts_of(refs, ["auth", "gateway", "redis"], ["s:1", "r:1"]), ["auth", "redis"])
        self.assertEqual(wiring.parts_of(refs, ["auth", "gateway", "redis"], []), [])

    def test_only_single_ports_of_the_own_groups_are_asked_for(self):
        table = [
            {"name": "ssh", "group": "all", "proto": "tcp", "port": 22},
            {"name": "s3", "group": "storage", "proto": "tcp", "port": "9000"},
            {"name": "relay", "group": "storage", "proto": "udp", "port": "1-2"},
            {"name": "sql", "group": "db", "proto": "tcp", "port": 26257},
        ]
        self.assertEqual(wiring.host_ports(table, ["storage"]), [{"proto": "tcp", "port": 9000}])


if __name__ == "__main__":
    unittest.main()
