"""The `d` parameter of a target URL: an encrypted JSON object that names scan, frequency mode and project.

ecb (until June 2020): AES-ECB over the text padded with blanks, URL-safe base64 with padding.
eax (from June 2020): URL-safe base64 of nonce (16 bytes), tag (16 bytes) and AES-EAX ciphertext.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

from Cryptodome.Cipher import AES

CIPHERS = ("ecb", "eax")


@dataclass(frozen=True)
class Target:
    """What a token names. The ids are as sent: a text where a number should be is told only when they are used."""

    project: str
    freqmode: Any
    scanid: Any


def aes_key(cipher: str, secret: str) -> bytes:
    """The AES key of a secret; raises ValueError saying what the secret must be."""
    try:
        key = secret.encode("ascii") if cipher == "ecb" else base64.b64decode(secret, validate=True)
    except ValueError:
        key = b""
    if len(key) not in AES.key_size:
        form = "ASCII characters" if cipher == "ecb" else "bytes in base64"
        raise ValueError(f"must be 16, 24 or 32 {form} for the cipher {cipher}")
    return key


def decode(token: str, cipher: str, secret: str) -> Target:
    """Decrypt and check a token; raises ValueError with the reason (and no part of the token)."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", token) or len(token) % 4:
        raise ValueError("it is not padded URL-safe base64")
    raw, key = base64.urlsafe_b64decode(token), aes_key(cipher, secret)
    try:
        if cipher == "ecb":
            plain = AES.new(key, AES.MODE_ECB).decrypt(raw)
        else:
            plain = AES.new(key, AES.MODE_EAX, nonce=raw[:16]).decrypt_and_verify(raw[32:], raw[16:32])
        content = json.loads(plain.decode().strip())
        target = Target(content["Project"], content["FreqMode"], content["ScanID"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("it does not decrypt to ScanID, FreqMode and Project: another secret or cipher?") from None
    if not isinstance(target.project, str) or not re.fullmatch(r"[\w.-]{1,255}", target.project, re.ASCII):
        raise ValueError("Project must be letters, digits and any of . _ -")
    if target.project in ("development", "projects"):
        raise ValueError(f"a project cannot be called {target.project}")
    return target
