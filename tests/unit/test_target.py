"""The target parameter: the Odin API contract's vectors, both ciphers, and what a synthetic nonce promises."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qsmr.errors import QsmrError
from qsmr.target import decode, encoder, plaintext

SECRET = "adsfasreerfgtres"
SECRET_256 = "0123456789abcdef0123456789abcdef"
EAX_SECRET = "rc/lY+OQYq6mvI6tCfr+tQ=="

ECB_VECTORS = [
    (
        SECRET,
        plaintext(7123991206, 1, "testproject"),
        "9ZJ9cGgljTN7knxAAhW8077G4Lr2NuVapD_8L2PsWN-e0VV2auyQhU1v12CRVPT704N7R4GRpdwv6wev2Fti6A==",
    ),
    (
        SECRET,
        plaintext(7014791071, 1, "myproject"),
        "wkPCh_uayT14xJwYiQxbocTBWWnyazk7hsrHyFvVKkOe0VV2auyQhU1v12CRVPT7WNfqLTg0Igby04z0kUKUZA==",
    ),
    (
        SECRET_256,
        plaintext(3197688958, 13, "odinproject"),
        "x2GiO85Deyb4r8h_9v1JqrWcXFMTak_Nx4KoRjoh5KQ3JDzI1LupX8v1SrQDL81ly5jZ3Qz2pr08LOM-3fW4gQ==",
    ),
    (
        SECRET,
        plaintext(7123991206, 1, "testproject", python2_order=True),
        "6M0cuR3hsLGMvU-GD0lZ0aivd_iJGKqyOD7hcpt48tzTzkjF8x7gSqFs3tK1qou-HqC0YCBxgh6IL9ikRr1diQ==",
    ),
]
EAX_VECTORS = [
    (
        "Rjjza_kbKaXqcg3zFpr3wp1Ijal-u8fLFAJu0zzqKicozKIainKKCg4VhKztFCbNnTQx70mF59gBv7V1OzGg1TNzPl_LsjPjq6wkF5Mv7BOAa0tB"
        "RdZYl83gMB7tH_o=",
        {"ScanID": 7123991206, "FreqMode": 1, "Project": "testproject"},
    ),
    (
        "MgDFdAokiatPmHae62CRpnqfr-4QXoIWL3KlDcf5zLBqyXMidJnNsudzcVmYqO8mfYXfGG2TIP-zmf7Kk0UiN0Y-ANjtMP3HI7YSVbNmUBGOe-mx"
        "N6Tjq68CH_cC",
        {"ScanID": 7014791071, "FreqMode": 1, "Project": "myproject"},
    ),
]

scans = st.integers(1, 2**63 - 1)
modes = st.integers(1, 999)
projects = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,58}", fullmatch=True)
secrets = st.sampled_from([("ecb", SECRET), ("ecb", SECRET_256), ("eax", EAX_SECRET)])


@pytest.mark.parametrize(("secret", "text", "token"), ECB_VECTORS)
def test_ecb_tokens_equal_the_contracts(secret, text, token):
    assert encoder(secret, "ecb")(text) == token
    assert decode(token, secret, "ecb") == json.loads(text)


@pytest.mark.parametrize(("token", "says"), EAX_VECTORS)
def test_eax_tokens_of_the_odin_api_decode(token, says):
    assert decode(token, EAX_SECRET, "eax") == says


@given(secrets, scans, modes, projects)
def test_what_is_encoded_decodes_and_is_the_same_each_time(cipher_and_secret, scan, mode, project):
    cipher, secret = cipher_and_secret
    text = plaintext(scan, mode, project)
    token = encoder(secret, cipher)(text)
    assert decode(token, secret, cipher) == {"ScanID": scan, "FreqMode": mode, "Project": project}
    assert encoder(secret, cipher)(text) == token


@given(st.sets(scans, min_size=2, max_size=50))
def test_eax_nonces_of_different_scans_differ(ids):
    encode = encoder(EAX_SECRET, "eax")
    tokens = [base64.urlsafe_b64decode(encode(plaintext(scan, 1, "demo"))) for scan in ids]
    assert len({token[:16] for token in tokens}) == len(ids)


def test_the_eax_nonce_depends_on_the_secret():
    text = plaintext(7123991206, 1, "demo")
    other = base64.b64encode(bytes(16)).decode()
    assert encoder(EAX_SECRET, "eax")(text)[:20] != encoder(other, "eax")(text)[:20]


@pytest.mark.parametrize(
    ("token", "secret", "cipher"),
    [
        (EAX_VECTORS[0][0], base64.b64encode(bytes(16)).decode(), "eax"),  # another secret
        (EAX_VECTORS[0][0].replace("R", "S", 1), EAX_SECRET, "eax"),  # a changed byte
        (ECB_VECTORS[0][2].rstrip("="), SECRET, "ecb"),  # without padding
        (ECB_VECTORS[0][2].replace("-", "+").replace("_", "/"), SECRET, "ecb"),  # the other base64 alphabet
        (EAX_VECTORS[0][0], SECRET, "ecb"),  # the other era
        ("", EAX_SECRET, "eax"),
    ],
)
def test_a_token_of_another_making_is_refused(token, secret, cipher):
    with pytest.raises(QsmrError, match="not made with this secret"):
        decode(token, secret, cipher)


@pytest.mark.parametrize(
    ("secret", "cipher", "says"),
    [
        ("short", "ecb", "has 5 bytes"),
        (SECRET, "eax", "not base64 of 16"),  # an ECB secret decodes to 12 bytes
        ("no base64!", "eax", "not base64 of 16"),
        (SECRET, "rot13", "no target cipher"),
    ],
)
def test_a_secret_that_is_no_key_is_refused_without_showing_it(secret, cipher, says):
    with pytest.raises(QsmrError, match=says) as refusal:
        encoder(secret, cipher)
    assert secret not in str(refusal.value)
