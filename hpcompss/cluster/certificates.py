"""The certificates of a study's machines: who has them may join, nobody else."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from hpcompss.errors import InputError, MissingExtraError

__all__ = ["Certificates", "make_certificates"]

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"

YEARS = 10
"""For how long certificates are valid: a folder of them is thrown away, and made anew, whenever one wishes."""


@dataclass(frozen=True)
class Certificates:
    """The files of a folder.

    Attributes:
        authority: The certificate that signed the other.
        certificate: What a machine shows.
        key: Its private key.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, folder: Path) -> Certificates:
        """Returns those of a folder. Raises `InputError` where one is not there."""
        found = cls(folder / AUTHORITY, folder / CERTIFICATE, folder / KEY)
        for path in (found.authority, found.certificate, found.key):
            if not os.access(path, os.R_OK):
                raise InputError(
                    f"the certificate file {path} cannot be read: make the folder with  hpcompss certificates "
                    f"{folder}  on one machine, and copy it to the others",
                    key="engine.certificates",
                )
        return found


def make_certificates(folder: Path) -> Certificates:
    """Makes a folder of certificates that a master and its workers share.

    Raises:
        InputError: The folder holds some already, or cannot be written.
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise MissingExtraError("cryptography", "dask", "making certificates") from None
    found = Certificates(folder / AUTHORITY, folder / CERTIFICATE, folder / KEY)
    there = [path for path in (found.authority, found.certificate, found.key) if path.exists()]
    if there:
        raise InputError(f"{there[0]} is there already: machines may use it; choose another folder, or remove this one")
    now = datetime.datetime.now(datetime.timezone.utc)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def signed(name: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, is_authority: bool) -> bytes:
        certificate = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("hpcompss authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))  # clocks of machines differ
            .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
            .sign(by, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    # The authority's own key is used once and forgotten: nobody can sign a further certificate.
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    private = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found.authority.write_bytes(signed("hpcompss authority", authority, authority, True))
        found.certificate.write_bytes(signed("hpcompss", own, authority, False))
        with open(os.open(found.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): choose another folder") from None
    return found
