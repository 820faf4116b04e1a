from __future__ import annotations

import os
import socket
import unittest
from unittest import mock

from plugins import load

action = load("action", "facts")
facts = load("modules", "facts")
images = load("modules", "images")


class ClockTest(unittest.TestCase):
    def test_a_reading_between_ours_is_right_and_another_is_off_by_the_distance(self):
        self.assertEqual(action.skew_ms(100.0, 100.4, 101.0), 0)
        self.assertEqual(action.skew_ms(100.0, 99.4, 101.0), -600)
        self.assertEqual(action.skew_ms(100.0, 103.0, 101.0), 2000)


class PortsTest(unittest.TestCase):
    def setUp(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.socket.close)
        self.port = self.socket.getsockname()[1]
        self.wanted = [{"proto": "tcp", "port": self.port}]

    def test_a_stranger_on_our_port_is_named(self):
        with mock.patch.object(facts, "our_containers", return_value=([], set())):
            found = facts.taken(self.wanted, "127.0.0.1", "/opt/x")
        self.assertEqual([(one["port"], one["pid"]) for one in found], [(self.port, str(os.getpid()))])

    def test_an_address_that_is_not_ours_does_not_matter(self):
        with mock.patch.object(facts, "our_containers", return_value=([], set())):
            self.assertEqual(facts.taken(self.wanted, "192.0.2.1", "/opt/x"), [])

    def test_a_port_wanted_on_loopback_is_looked_for_there(self):
        wanted = [dict(self.wanted[0], address="127.0.0.1")]
        with mock.patch.object(facts, "our_containers", return_value=([], set())):
            self.assertEqual([one["port"] for one in facts.taken(wanted, "192.0.2.1", "/opt/x")], [self.port])
            self.assertEqual(facts.taken([dict(wanted[0], address="127.0.0.2")], "127.0.0.1", "/opt/x"), [])

    def test_our_own_container_may_have_it(self):
        with mock.patch.object(facts, "our_containers", return_value=([], {self.port})), mock.patch.object(
            facts, "owner_of", return_value=("1", "docker-proxy")
        ):
            self.assertEqual(facts.taken(self.wanted, "127.0.0.1", "/opt/x"), [])

    def test_another_project_on_our_port_is_a_stranger(self):
        rows = "aa\t/opt/x/lb\t0.0.0.0:80->80/tcp\nbb\t/srv/else\t0.0.0.0:443->443/tcp\ncc\t\t\n"
        with mock.patch.object(facts, "output_of", return_value=rows):
            self.assertEqual(facts.our_containers("/opt/x"), (["aa"], {80}))


class HostTest(unittest.TestCase):
    def test_an_address_is_ours_only_if_a_socket_can_have_it(self):
        self.assertTrue(facts.holds("127.0.0.1"))
        self.assertFalse(facts.holds("192.0.2.1"))

    def test_packages_and_holds(self):
        listed = "git\tinstall installed\ndocker.io\thold installed\nold\tdeinstall config-files\n"
        with mock.patch.object(facts, "output_of", return_value=listed):
            self.assertEqual(facts.packages(["git", "docker.io", "old", "none"]), (["git", "docker.io"], ["docker.io"]))


class ReferenceTest(unittest.TestCase):
    def test_a_reference_as_the_engine_lists_it(self):
        for ref, listed in (
            ("secureconnect/sql:1", "secureconnect/sql:1"),
            ("docker.io/library/redis:8", "redis:8"),
            ("docker.io/coturn/coturn:4@sha256:aa", "coturn/coturn:4"),
        ):
            self.assertEqual(images.bare(ref), listed)


if __name__ == "__main__":
    unittest.main()
