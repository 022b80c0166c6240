"""Issues real certificates for tests."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme

_DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority that writes its files to a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.file = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str, days: tuple[int, int] = (-1, 1)) -> tuple[Path, Path]:
        """Writes a certificate and its key, and replaces earlier ones of that name.

        Args:
            name: Stem of the file names.
            hosts: Names in the certificate.
            days: First and last day of validity, relative to today.
        """
        now = datetime.datetime.now(datetime.UTC)
        leaf = self._ca.issue_cert(
            *(hosts or ("localhost", "127.0.0.1")), not_before=now + days[0] * _DAY, not_after=now + days[1] * _DAY
        )
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return certificate, key
