"""The local certificate authority: made at initialisation, its root exportable.

A certificate and its key are one file pair in one directory; a directory is replaced as a whole,
so a reader finds the old pair or the new one, never a mixture (F11).
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioner import clock

ROOT_DAYS = 3650
LEAF_DAYS = 397  # browsers refuse longer ones of public authorities; renewed long before
RENEW_DAYS = 60
BACKDATED = timedelta(hours=1)  # a host whose clock is a little behind accepts them too


@dataclass(frozen=True)
class Certificate:
    """A certificate chain with its private key, PEM."""

    chain: bytes
    key: bytes


class Authority:
    """The certificate authority in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def root(self) -> Path:
        """Return the file of the root certificate: what a browser must trust."""
        return self._directory / "root.pem"

    def ensure(self, council: str) -> bool:
        """Make the root unless it exists; return whether it was made."""
        if self.root.exists():
            return False
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, council[:64]),
                x509.NameAttribute(NameOID.COMMON_NAME, "provision local authority"),
            ]
        )
        now = clock.now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + timedelta(days=ROOT_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_private(self._key_file, _pem(key))
        _write_private(self.root, certificate.public_bytes(serialization.Encoding.PEM))
        self.root.chmod(0o644)
        return True

    @property
    def _key_file(self) -> Path:
        return self._directory / "root.key"

    def certificate(self, names: list[str]) -> Certificate:
        """Return the certificate for ``names``, issued now if there is none or it ends within 60 days."""
        directory = self._directory / "issued" / names[0].replace("*", "_")
        chain, key = directory / "chain.pem", directory / "key.pem"
        if not (chain.exists() and key.exists() and self._good(chain.read_bytes(), names)):
            self._issue(names, directory)
        return Certificate(chain.read_bytes(), key.read_bytes())

    def _good(self, chain: bytes, names: list[str]) -> bool:
        leaf, root = (
            x509.load_pem_x509_certificates(chain)[0],
            x509.load_pem_x509_certificate(self.root.read_bytes()),
        )
        named = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            leaf.not_valid_after_utc > clock.now() + timedelta(days=RENEW_DAYS)
            and named.get_values_for_type(x509.DNSName) == names
            and leaf.issuer == root.subject
        )

    def _issue(self, names: list[str], directory: Path) -> None:
        root = x509.load_pem_x509_certificate(self.root.read_bytes())
        root_key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        if not isinstance(root_key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self._key_file} holds another kind of key than this authority makes")
        key = ec.generate_private_key(ec.SECP256R1())
        now = clock.now()
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
            .issuer_name(root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + timedelta(days=LEAF_DAYS))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The chain is written last and names the key's public half: a crash in between is seen and issued again.
        (directory / "chain.pem").unlink(missing_ok=True)
        _write_private(directory / "key.pem", _pem(key))
        pem = serialization.Encoding.PEM
        _write_private(directory / "chain.pem", leaf.public_bytes(pem) + root.public_bytes(pem))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    staging = path.with_name(path.name + ".new")
    with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)
