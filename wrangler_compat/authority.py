"""TLS on the loopback address: an authority of this machine's own, and a certificate that it signs.

wrangler from 4.36 on sends a remote binding's requests to https on port 443, whatever the environment says; with
``NODE_EXTRA_CA_CERTS`` set to the authority they end here. Nothing but such a shell trusts it.
"""

from __future__ import annotations

import os
from pathlib import Path

import trustme

from worker.server import Tls, bind

PORT = 443
_AUTHORITY = "authority.pem"
_NAMES = ("localhost", "127.0.0.1")


def listen_tls(folder: Path) -> Tls:
    """A socket on 127.0.0.1:443 with a certificate of the authority in ``folder``; both are made where missing."""
    listener = bind("127.0.0.1", PORT)
    folder.mkdir(parents=True, exist_ok=True)
    authority = _authority(folder)
    issued = authority.issue_cert(*_NAMES)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    _write_secret(key, issued.private_key_pem.bytes())
    return Tls(listener, certificate, key)


def trusted_file(folder: Path, inherited: str | None) -> Path | None:
    """What callers must trust: the authority in ``folder``, and with it the file that they trust already.

    ``None`` where there is no authority.
    """
    authority, both = folder / _AUTHORITY, folder / "trusted.pem"
    if not authority.exists():
        return None
    theirs = Path(inherited) if inherited else authority
    if theirs in (authority, both) or not theirs.is_file():
        return both if theirs == both else authority
    both.write_bytes(authority.read_bytes() + b"\n" + theirs.read_bytes())
    return both


def _authority(folder: Path) -> trustme.CA:
    """The authority kept in ``folder``: a shell that trusts it goes on doing so."""
    path, key = folder / _AUTHORITY, folder / "authority-key.pem"
    if path.exists() and key.exists():
        return trustme.CA.from_pem(path.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name="roost, on this machine")
    _write_secret(key, authority.private_key_pem.bytes())
    path.write_bytes(authority.cert_pem.bytes())
    return authority


def _write_secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
