"""The ``d`` parameter of a job's target URL: the scan that a level 2 delivery is for, encrypted with the Odin secret.

Two ciphers: ECB (Odin API until June 2020) and EAX (from then on). The same scan, secret and cipher always give the
same token, so that a job that is sent again equals the stored one and the job service takes it as a duplicate.

For EAX that takes a nonce that is not random. It is derived from the secret and the plaintext (a synthetic nonce, as in
the SIV construction): HMAC-SHA256 of the plaintext, cut to 16 bytes, under a key that is itself derived from the secret
for this purpose only. Why that is safe:

* EAX needs nonces that don't repeat for different texts; they need not be random. Ours repeats only if two texts give
  the same 128 bits of HMAC, or if they are equal, and then the whole token is equal.
* The nonce stands open in the token. It says nothing about the cipher key or the text to anyone without the secret: it
  is the output of a pseudorandom function whose key is used for nothing else.
* What is given away is whether two tokens are for the same scan, frequency mode and project. The job's id and its
  source URL say that in clear text.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

from .errors import QsmrError
from .libraries import libraries

with libraries():
    from Cryptodome.Cipher import AES

CIPHERS = ("ecb", "eax")
_KEY_LENGTHS = (16, 24, 32)
_NONCE_LENGTH = _TAG_LENGTH = 16
_NONCE_KEY_PURPOSE = b"qsmr-fleet level 2 target, EAX nonce"


def plaintext(scan_id: int, freq_mode: int, project: str, python2_order: bool = False) -> bytes:
    """The JSON text that the token encrypts, as Python 3 scripts write it, or in the key order of the Python 2 scripts.

    ECB tokens of the two orders differ; the Odin API reads both.
    """
    fields: dict[str, int | str] = {"ScanID": scan_id, "FreqMode": freq_mode}
    fields = {"Project": project, **fields} if python2_order else {**fields, "Project": project}
    return json.dumps(fields).encode("ascii")


def encoder(secret: str, cipher: str) -> Callable[[bytes], str]:
    """The function that makes a token of a plaintext; QsmrError if the secret is no key of the cipher."""
    key = _key(secret, cipher)
    if cipher == "ecb":
        # The blocks don't depend on each other: one cipher object serves all tokens.
        encrypt = AES.new(key, AES.MODE_ECB).encrypt
        return lambda text: _base64(encrypt(text.ljust(-(-len(text) // 16) * 16)))
    nonce_key = hmac.digest(key, _NONCE_KEY_PURPOSE, "sha256")

    def encode(text: bytes) -> str:
        nonce = hmac.digest(nonce_key, text, "sha256")[:_NONCE_LENGTH]
        ciphertext, tag = AES.new(key, AES.MODE_EAX, nonce=nonce).encrypt_and_digest(text)
        return _base64(nonce + tag + ciphertext)

    return encode


def decode(token: str, secret: str, cipher: str) -> dict[str, Any]:
    """What a token says: ScanID, FreqMode and Project. QsmrError if it was not made with this secret and cipher."""
    key = _key(secret, cipher)
    try:
        # Python's own URL-safe decoder takes the other alphabet, too; the Odin API does not.
        data = base64.b64decode(token.translate(str.maketrans("-_+/", "+/--")), validate=True)
        if cipher == "ecb":
            text = AES.new(key, AES.MODE_ECB).decrypt(data).strip()
        else:
            nonce, tag = data[:_NONCE_LENGTH], data[_NONCE_LENGTH : _NONCE_LENGTH + _TAG_LENGTH]
            text = AES.new(key, AES.MODE_EAX, nonce=nonce).decrypt_and_verify(data[_NONCE_LENGTH + _TAG_LENGTH :], tag)
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise QsmrError(f"The target parameter was not made with this secret and cipher ({cipher})")
    return found


def _key(secret: str, cipher: str) -> bytes:
    if cipher == "ecb":
        key = secret.encode()
        if len(key) not in _KEY_LENGTHS:
            raise QsmrError(
                f"ODIN_SECRET has {len(key)} bytes, but the ecb cipher needs 16, 24 or 32: check the config"
            )
        return key
    if cipher != "eax":
        raise QsmrError(f'There is no target cipher "{cipher}": choose {" or ".join(CIPHERS)}')
    try:
        key = base64.b64decode(secret, validate=True)
    except ValueError:
        key = b""
    if len(key) not in _KEY_LENGTHS:
        raise QsmrError("ODIN_SECRET is not base64 of 16, 24 or 32 bytes, as the eax cipher needs: check the config")
    return key


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii")
