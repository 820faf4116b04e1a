"""The deployment's certificates, made or checked on the controller; nothing here contacts a host.

Without `provided`, an own authority in `directory` signs one certificate for every entry of `names`; one is made
again when its names have changed, when less than 30 days are left, or when another authority signed it. With
`provided` the operator's certificate and key serve for all of them, after they were checked. The answer holds
{name: {certificate, key}} and the authority's certificate; a check makes what is missing in memory only, and
with `look` the answer holds no key either.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible.plugins.action import ActionBase

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397  # browsers accept no more
RENEW_DAYS = 30


class Refused(Exception):
    """The operator's certificate cannot serve; says why."""


# --- Reading and writing ----------------------------------------------------------------------------------


def pem_of(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def pem_of_key(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def key_in(text):
    return serialization.load_pem_private_key(text.encode(), password=None)


def text_in(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path, text, mode):
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, new = tempfile.mkstemp(prefix=".pki-", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, mode)
        file.write(text)
        file.flush()
        os.fsync(handle)
    os.replace(new, path)


# --- Making -----------------------------------------------------------------------------------------------


def alternative(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def builder(subject, issuer, key, now, days):
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def usage(**allowed):
    kinds = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )
    return x509.KeyUsage(**{kind: allowed.get(kind, False) for kind in kinds})


def new_authority(domain, now):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        builder(f"SecureConnect {domain}"[:64], None, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def new_certificate(names, authority, authority_key, now):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        builder(names[0][:64], authority.subject, key, now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([alternative(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    return certificate, key


# --- Judging ----------------------------------------------------------------------------------------------


def names_in(certificate):
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(found.get_values_for_type(x509.DNSName)) | {str(ip) for ip in found.get_values_for_type(x509.IPAddress)}


def issued_by(certificate, issuer):
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def days_left(certificate, now):
    return (certificate.not_valid_after_utc - now).days


def serves(certificate_text, key_text, names, authority, now):
    """Whether a certificate made earlier can stay."""
    try:
        certificate, key = x509.load_pem_x509_certificate(certificate_text.encode()), key_in(key_text)
    except ValueError:
        return False
    return (
        names_in(certificate) == set(names)
        and days_left(certificate, now) >= RENEW_DAYS
        and certificate.public_key() == key.public_key()
        and issued_by(certificate, authority)
    )


def covered(name, names):
    """Whether a certificate's names cover this one; a wildcard stands for one label."""
    return name in names or "*." + name.partition(".")[2] in names


def check_provided(certificate_text, key_text, names, now):
    """The operator's certificate: readable, its own key, in its time, for these names, its chain in order."""
    try:
        chain = x509.load_pem_x509_certificates(certificate_text.encode())
    except ValueError as error:
        raise Refused("edge_certificate_file: holds no certificate in PEM") from error
    try:
        key = key_in(key_text)
    except (ValueError, TypeError) as error:
        raise Refused("edge_certificate_key_file: holds no key in PEM, or one with a passphrase") from error
    leaf = chain[0]
    if leaf.public_key() != key.public_key():
        raise Refused("edge_certificate_key_file: is not the key of the first certificate in edge_certificate_file")
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise Refused(f"edge_certificate_file: is valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}")
    missing = sorted(name for name in names if not covered(name, names_in(leaf)))
    if missing:
        raise Refused(f"edge_certificate_file: is not for {', '.join(missing)}")
    for certificate, issuer in zip(chain, chain[1:]):
        if not issued_by(certificate, issuer):
            raise Refused(
                f"edge_certificate_file: its chain is out of order at {certificate.subject.rfc4514_string()}: "
                "the certificate comes first, then each one's issuer"
            )


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"wanted", "look"})  # wanted: directory, domain, names, provided, certificate_file, key_file

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self.now = datetime.datetime.now(datetime.timezone.utc)
        self.made = []
        args = self._task.args["wanted"]
        try:
            certificates, authority = self._provided(args) if args["provided"] else self._own(args)
        except Refused as refused:
            return dict(result, failed=True, msg=f"PREFLIGHT: {refused}")
        result.update(changed=False)
        if not self._task.args.get("look"):
            result.update(changed=bool(self.made), made=self.made, certificates=certificates, authority=authority)
        return result

    def _provided(self, args):
        certificate, key = text_in(args["certificate_file"]), text_in(args["key_file"])
        names = {name for group in args["names"].values() for name in group if isinstance(alternative(name), x509.DNSName)}
        check_provided(certificate, key, names, self.now)
        return {name: {"certificate": certificate, "key": key} for name in args["names"]}, ""

    def _own(self, args):
        authority, authority_key = self._authority(args)
        found = {}
        for name, wanted in sorted(args["names"].items()):
            found[name] = self._certificate(args["directory"], name, wanted, authority, authority_key)
        return found, pem_of(authority)

    def _authority(self, args):
        files = [os.path.join(args["directory"], name) for name in ("ca.crt", "ca.key")]
        certificate, key = (text_in(path) for path in files)
        if certificate and key:
            return x509.load_pem_x509_certificate(certificate.encode()), key_in(key)
        if certificate:
            raise Refused(
                f"pki_dir: {files[0]} is there without its key {files[1]}: copy the whole folder from "
                "the machine that deployed before"
            )
        authority, authority_key = new_authority(args["domain"], self.now)
        # The key first: a certificate without one would be taken for a half copied folder.
        self._keep("ca", files[1], pem_of_key(authority_key), 0o600)
        self._keep("ca", files[0], pem_of(authority), 0o644)
        return authority, authority_key

    def _certificate(self, directory, name, names, authority, authority_key):
        files = [os.path.join(directory, name + ext) for ext in (".crt", ".key")]
        certificate, key = (text_in(path) for path in files)
        if not serves(certificate, key, names, authority, self.now):
            made, made_key = new_certificate(names, authority, authority_key, self.now)
            certificate, key = pem_of(made) + pem_of(authority), pem_of_key(made_key)
            self._keep(name, files[1], key, 0o600)
            self._keep(name, files[0], certificate, 0o644)
        return {"certificate": certificate, "key": key}

    def _keep(self, name, path, text, mode):
        if name not in self.made:
            self.made.append(name)
        if not self._task.check_mode and not self._task.args.get("look"):
            write(path, text, mode)
