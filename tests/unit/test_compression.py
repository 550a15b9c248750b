"""Compressed streams: what goes in comes out, and nothing damaged does."""

from __future__ import annotations

import random

import pytest
from qsmr.compression import GZIP, ZSTD, Undecodable, compressed, decompressed, window_log

SOURCE = random.Random(1)
RANDOM = SOURCE.randbytes(700_000)
TEXT = b"".join(b"line %d of a text\n" % SOURCE.randrange(1000) for _ in range(60_000))


def pieces(data: bytes, size: int = 100_001):
    return (data[start : start + size] for start in range(0, len(data), size))


def packed(data: bytes, codec: str, **arguments) -> bytes:
    return b"".join(compressed(pieces(data), codec, 3, **arguments))


def unpacked(data: bytes, codec: str, prefix=None, size: int = 100_001) -> bytes:
    return b"".join(decompressed(pieces(data, size), codec, prefix))


@pytest.mark.parametrize("codec", [ZSTD, GZIP])
@pytest.mark.parametrize("data", [b"", b"a", TEXT, RANDOM, bytes(5_000_000)], ids=["0", "1", "text", "random", "zeros"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_goes_in_comes_out(codec, data, workers):
    small = packed(data, codec, workers=workers)
    assert unpacked(small, codec) == data
    assert len(small) < 0.3 * len(data) or data is not TEXT
    assert small == packed(data, codec, workers=workers)


@pytest.mark.parametrize("codec", [ZSTD, GZIP])
def test_pieces_may_end_anywhere(codec):
    assert unpacked(packed(TEXT[:3000], codec), codec, size=1) == TEXT[:3000]


@pytest.mark.parametrize("codec", [ZSTD, GZIP])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: b"", lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:]],
    ids=["cut", "nothing", "flipped"],
)
def test_damage_is_found(codec, damage):
    with pytest.raises(Undecodable, match="zstd" if codec == ZSTD else "gzip"):
        unpacked(damage(packed(TEXT, codec)), codec)


@pytest.mark.parametrize("codec", [ZSTD, GZIP])
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_what_follows_the_end_is_damage(codec, size):
    with pytest.raises(Undecodable):
        unpacked(packed(TEXT[:3000], codec) + b"x", codec, size=size)


def test_delta_costs_what_changed_however_far_away_the_rest_is():
    """Ten megabytes that do not compress: only by referring to the other version can this be small."""
    old = SOURCE.randbytes(10_000_000)
    new = old[5_000_000:] + b"changed" + old[:5_000_000]
    delta = packed(new, ZSTD, size=len(new), prefix=old)
    assert len(delta) < 2000
    assert unpacked(delta, ZSTD, bytearray(old)) == new


def test_delta_needs_its_prefix():
    delta = packed(TEXT, ZSTD, size=len(TEXT), prefix=TEXT[:500_000])
    with pytest.raises(Undecodable):
        unpacked(delta, ZSTD, TEXT[1:500_001])


@pytest.mark.parametrize(("size", "log"), [(0, 10), (1024, 10), (1025, 11), (1 << 28, 28)])
def test_window_holds_what_it_should(size, log):
    assert window_log(size) == log
