"""Compressed layers as streams: zstd by the system's own library, gzip where there is none.

Debian, Ubuntu and Fedora cannot do without libzstd (their package tools need it), so that a host needs no package of
Python's for it. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .errors import QsmrError

ZSTD, GZIP = "zst", "gz"
# Stable names of parameters (zstd.h, 1.4.0 and later).
_OLDEST_ZSTD = 10400
_LEVEL, _WINDOW_LOG, _CHECKSUM, _LONG_DISTANCE, _WORKERS = 100, 101, 201, 160, 400
_D_WINDOW_LOG_MAX = 100
_CONTINUE, _END = 0, 2
# What may lie between a byte and the one that it repeats: the largest window that libzstd takes by every build.
LARGEST_WINDOW_LOG = 30
_OUT_SIZE = 1 << 18

if TYPE_CHECKING:
    from typing import TypeAlias

    Prefix: TypeAlias = "bytes | bytearray"


class Undecodable(QsmrError):
    """Compressed data that is damaged, or cut short."""


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer."""

    _fields_ = (("address", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


@lru_cache
def _library() -> Any:
    for name in ("libzstd.so.1", "libzstd.1.dylib"):
        try:
            found = ctypes.CDLL(name)
            found.ZSTD_versionNumber.restype = ctypes.c_uint
            if found.ZSTD_versionNumber() < _OLDEST_ZSTD:
                continue
        except (OSError, AttributeError):
            continue
        size, address, integer = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
        buffer = ctypes.POINTER(_Buffer)
        for function, result, arguments in (
            ("ZSTD_createCCtx", address, ()),
            ("ZSTD_freeCCtx", size, (address,)),
            ("ZSTD_CCtx_setParameter", size, (address, integer, integer)),
            ("ZSTD_CCtx_setPledgedSrcSize", size, (address, ctypes.c_ulonglong)),
            ("ZSTD_CCtx_refPrefix", size, (address, address, size)),
            ("ZSTD_compressStream2", size, (address, buffer, buffer, integer)),
            ("ZSTD_createDCtx", address, ()),
            ("ZSTD_freeDCtx", size, (address,)),
            ("ZSTD_DCtx_setParameter", size, (address, integer, integer)),
            ("ZSTD_DCtx_refPrefix", size, (address, address, size)),
            ("ZSTD_decompressStream", size, (address, buffer, buffer)),
            ("ZSTD_isError", ctypes.c_uint, (size,)),
            ("ZSTD_getErrorName", ctypes.c_char_p, (size,)),
        ):
            getattr(found, function).restype = result
            getattr(found, function).argtypes = arguments
        return found
    return None


def has_zstd() -> bool:
    """Whether this machine can (de)compress zstd."""
    return _library() is not None


def window_log(size: int) -> int:
    """Logarithm to base 2 of a window that holds ``size`` bytes."""
    return max(10, (size - 1).bit_length())


class _Stream:
    """What both directions share: the context, the output buffer, and how the library tells faults."""

    def __init__(self, kind: str) -> None:
        self.zstd = _library()
        self.free = getattr(self.zstd, f"ZSTD_free{kind}Ctx")
        self.context = ctypes.c_void_p(getattr(self.zstd, f"ZSTD_create{kind}Ctx")())
        self.memory = ctypes.create_string_buffer(_OUT_SIZE)
        self.prefix: Any = None
        self.rest = 1

    def __del__(self) -> None:
        self.free(self.context)

    def checked(self, code: int) -> int:
        if self.zstd.ZSTD_isError(code):
            raise Undecodable(f"zstd: {self.zstd.ZSTD_getErrorName(code).decode()}")
        return code

    def refer_to(self, reference: Any, prefix: Prefix) -> None:
        """Let the next frame repeat parts of ``prefix``, which stays where it is as long as this stream lives."""
        if isinstance(prefix, bytes):
            self.prefix = ctypes.c_char_p(prefix)
        else:
            self.prefix = (ctypes.c_char * len(prefix)).from_buffer(prefix)
        self.checked(reference(self.context, ctypes.cast(self.prefix, ctypes.c_void_p), len(prefix)))

    def run(self, step: Any, data: bytes, *arguments: int) -> Iterator[bytes]:
        """Feed ``data``; yields what comes out. ``rest`` becomes what the library still expects, 0 if nothing."""
        source = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
        taken = _Buffer(source.value, len(data), 0)
        while True:
            out = _Buffer(ctypes.addressof(self.memory), _OUT_SIZE, 0)
            self.rest = self.checked(step(self.context, ctypes.byref(out), ctypes.byref(taken), *arguments))
            yield ctypes.string_at(self.memory, out.position)
            if taken.position == len(data) and out.position < _OUT_SIZE and not (_END in arguments and self.rest):
                return


def compressed(
    chunks: Iterable[bytes], codec: str, level: int, size: int = 0, workers: int = 0, prefix: Prefix | None = None
) -> Iterator[bytes]:
    """Compress ``chunks``. Equal input and arguments make equal output.

    ``size`` is that of all chunks together, as far as it is known. With ``prefix`` (zstd only) parts that occur there
    are referred to and not stored: the output can be read only with the same prefix.
    """
    if codec == GZIP:
        deflate = zlib.compressobj(min(level, 9), zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        for chunk in chunks:
            yield deflate.compress(chunk)
        yield deflate.flush()
        return
    stream = _Stream("C")
    zstd = stream.zstd
    options = {_LEVEL: level, _CHECKSUM: 1}
    if workers > 1 and prefix is None:
        options[_WORKERS] = workers
    if prefix is not None:
        options |= {_LONG_DISTANCE: 1, _WINDOW_LOG: min(LARGEST_WINDOW_LOG, window_log(len(prefix) + size))}
    for option, value in options.items():
        # A library that was built without threads refuses workers, and works all the same.
        code = zstd.ZSTD_CCtx_setParameter(stream.context, option, value)
        if option != _WORKERS:
            stream.checked(code)
    if size:
        stream.checked(zstd.ZSTD_CCtx_setPledgedSrcSize(stream.context, size))
    if prefix is not None:
        stream.refer_to(zstd.ZSTD_CCtx_refPrefix, prefix)
    for chunk in chunks:
        yield from stream.run(zstd.ZSTD_compressStream2, chunk, _CONTINUE)
    yield from stream.run(zstd.ZSTD_compressStream2, b"", _END)


def decompressed(chunks: Iterable[bytes], codec: str, prefix: Prefix | None = None) -> Iterator[bytes]:
    """Decompress what ``compressed`` made, with the same prefix. Raises Undecodable."""
    return _inflated(chunks) if codec == GZIP else _unzstd(chunks, prefix)


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    rest = b""
    try:
        for chunk in chunks:
            rest = chunk
            while rest and not inflate.eof:
                yield inflate.decompress(rest, _OUT_SIZE)
                rest = inflate.unconsumed_tail
        yield inflate.flush()
    except zlib.error as error:
        raise Undecodable(f"gzip: {error}") from None
    if not inflate.eof or rest or inflate.unused_data:
        raise Undecodable("gzip: its end is not where it should be")


def _unzstd(chunks: Iterable[bytes], prefix: Prefix | None) -> Iterator[bytes]:
    stream = _Stream("D")
    zstd = stream.zstd
    stream.checked(zstd.ZSTD_DCtx_setParameter(stream.context, _D_WINDOW_LOG_MAX, LARGEST_WINDOW_LOG))
    if prefix is not None:
        stream.refer_to(zstd.ZSTD_DCtx_refPrefix, prefix)
    for chunk in filter(None, chunks):
        yield from stream.run(zstd.ZSTD_decompressStream, chunk)
    if stream.rest:
        raise Undecodable("zstd: it is cut short")
