from __future__ import annotations

import datetime
import unittest

from plugins import load

pki = load("action", "certificates")

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
NAMES = ["api.example.com", "10.0.0.1"]


def days(number):
    return NOW + datetime.timedelta(days=number)


class OwnTest(unittest.TestCase):
    def setUp(self):
        self.authority, self.authority_key = pki.new_authority("example.com", NOW)
        certificate, key = pki.new_certificate(NAMES, self.authority, self.authority_key, NOW)
        self.certificate, self.key = pki.pem_of(certificate), pki.pem_of_key(key)

    def serves(self, names=None, authority=None, now=NOW, certificate=None, key=None):
        return pki.serves(
            certificate or self.certificate, key or self.key, names or NAMES, authority or self.authority, now
        )

    def test_a_certificate_stays_while_it_serves(self):
        self.assertTrue(self.serves())
        self.assertTrue(self.serves(now=days(360)))

    def test_it_is_made_again_when_it_no_longer_does(self):
        other, _key = pki.new_authority("example.com", NOW)
        _other_certificate, other_key = pki.new_certificate(NAMES, self.authority, self.authority_key, NOW)
        self.assertFalse(self.serves(now=days(370)), "30 days before the end")
        self.assertFalse(self.serves(names=["chat.example.com"]), "other names")
        self.assertFalse(self.serves(authority=other), "another authority")
        self.assertFalse(self.serves(key=pki.pem_of_key(other_key)), "another key")
        self.assertFalse(self.serves(certificate="cut off", key="cut off"), "damaged files")


class ProvidedTest(unittest.TestCase):
    def setUp(self):
        self.root, self.root_key = pki.new_authority("root", NOW)
        self.leaf, self.leaf_key = pki.new_certificate(["*.example.com"], self.root, self.root_key, NOW)

    def refusal(self, chain=None, key=None, names=("api.example.com",), now=NOW):
        text = "".join(pki.pem_of(one) for one in chain or [self.leaf, self.root])
        try:
            pki.check_provided(text, pki.pem_of_key(key or self.leaf_key), names, now)
        except pki.Refused as refused:
            return str(refused)
        return ""

    def test_a_right_one_passes(self):
        self.assertEqual(self.refusal(), "")

    def test_each_cause_is_named(self):
        stranger, stranger_key = pki.new_authority("stranger", NOW)
        self.assertIn("is not the key", self.refusal(key=stranger_key))
        self.assertIn("is valid from", self.refusal(now=days(500)))
        self.assertIn("is not for turn.example.org", self.refusal(names=["api.example.com", "turn.example.org"]))
        self.assertIn("is not for a.b.example.com", self.refusal(names=["a.b.example.com"]))
        self.assertIn("out of order", self.refusal(chain=[self.leaf, stranger, self.root]))

    def test_what_is_no_certificate_or_key(self):
        with self.assertRaises(pki.Refused):
            pki.check_provided("hello", pki.pem_of_key(self.leaf_key), [], NOW)
        with self.assertRaises(pki.Refused):
            pki.check_provided(pki.pem_of(self.leaf), "hello", [], NOW)


if __name__ == "__main__":
    unittest.main()
