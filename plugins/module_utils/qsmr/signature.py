"""Signatures of snapshots: Ed25519 over SHA256SUMS, raw (64 bytes) in SHA256SUMS.sig, as ``openssl pkeyutl`` has them.

SHA256SUMS covers every file but worker.env, whose digest would let its password be guessed. What else worker.env holds
is covered by a digest in snapshot.json.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import QsmrError
from .libraries import libraries
from .release import parse_env
from .snapshot import ENV_FILE, MANIFEST, PASSWORD_KEY, SUMS, Snapshot

with libraries():
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
        load_pem_public_key,
    )

SIGNATURE = f"{SUMS}.sig"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class TrustedKeys:
    """The public keys of ``sources``, each the path of a PEM file (of one key or more) or such text itself.

    Raises QsmrError for what is none.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._keys = [(_name(source), key) for source in sources for key in _public_keys(source)]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(name for name, _key in self._keys))

    def check_signer(self, signer: str) -> None:
        """Raise QsmrError unless a snapshot that is still to be made, and signed by this key, will pass ``check``."""
        ours = {_raw(key) for _name, key in self._keys}
        if not signer or ours.isdisjoint(map(_raw, _public_keys(signer))):
            raise QsmrError(
                f"The snapshot to be made would be signed by none of the qsmr_trusted_keys ({self}): "
                "set qsmr_signing_key to the private key of one of them"
            )

    def check(self, snapshot: Snapshot) -> None:
        """Raise QsmrError unless one of the keys has signed the snapshot as it is."""
        path = snapshot.directory / SIGNATURE
        try:
            signature, signed = path.read_bytes(), (snapshot.directory / SUMS).read_bytes()
            environment = parse_env((snapshot.directory / ENV_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise QsmrError(
                f"{snapshot.directory} is not signed, and qsmr_trusted_keys ({self}) is set: there is no {path}; "
                "have whoever made it set qsmr_signing_key and run snapshot.yml"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise QsmrError(f"The signature of {snapshot.directory} cannot be checked: {error}") from None
        if not any(_is_of(key, signature, signed) for _name, key in self._keys):
            raise QsmrError(
                f"{path} is a signature of none of the qsmr_trusted_keys ({self}), or {SUMS} changed since: "
                "nothing is rolled out of it"
            )
        if snapshot.manifest.get("environment") != environment_digest(environment):
            raise QsmrError(f"{snapshot.directory / ENV_FILE} is not what was signed: {MANIFEST} has another digest")


class SigningKey:
    """The private key in a PEM file without passphrase that only its owner may read. Raises QsmrError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            pem = path.read_bytes()
        except OSError as error:
            raise QsmrError(f"Signing key {path} cannot be read: {error.strerror}; check qsmr_signing_key") from None
        if mode & 0o077:
            raise QsmrError(f"Others may use the signing key {path} (mode {mode:04o}): chmod 600 {path}")
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise QsmrError(
                f"{path} is no Ed25519 key in PEM without passphrase: openssl genpkey -algorithm ed25519 makes one"
            )
        self._key = key
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public = public.decode()
        self.trusted = TrustedKeys([self.public])

    def sign(self, directory: Path) -> bytes:
        """The signature of the snapshot that lies in ``directory``."""
        return self._key.sign((directory / SUMS).read_bytes())


def environment_digest(environment: Mapping[str, str]) -> str:
    """Digest of what worker.env holds, its password left out."""
    open_values = {key: value for key, value in environment.items() if key != PASSWORD_KEY}
    return f"sha256:{hashlib.sha256(json.dumps(open_values, sort_keys=True).encode()).hexdigest()}"


def _public_keys(source: str) -> list[Ed25519PublicKey]:
    try:
        text = source if "-----BEGIN" in source else Path(source).read_text(encoding="ascii")
        keys = [load_pem_public_key(pem.encode()) for pem in _PEM.findall(text)]
    except OSError as error:
        raise QsmrError(f"Trusted key {source} cannot be read: {error.strerror}; check qsmr_trusted_keys") from None
    except (ValueError, UnsupportedAlgorithm):
        keys = []
    ours = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not ours or len(ours) < len(keys):
        raise QsmrError(f"Trusted key {_name(source)} is no Ed25519 public key in PEM: check qsmr_trusted_keys")
    return ours


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _name(source: str) -> str:
    return "a key given as text" if "-----BEGIN" in source else source


def _is_of(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
