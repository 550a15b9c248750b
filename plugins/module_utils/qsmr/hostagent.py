"""A host's side of a push: takes blobs from the control node and from other hosts, chunk by chunk, and verifies them.

Runs on lab hosts as source that comes through the SSH session (Python 3.9, standard library): nothing is installed, and
it ends with the session. A blob is ``<staging>/<sha256>.part`` until all of it is verified, then
``<staging>/<sha256>``. What an earlier run left is taken up again: its content tells which chunks are there.

Sets of chunks are integers, one bit for each chunk: the control node numbers the chunks of all blobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

CHUNK = 256 * 1024  # bytes; a chunk is small enough to be passed on while the next one arrives
GREETING = b"qsmr-push 1\n"  # what a shell's start files print comes before it
LINE_LIMIT = 1 << 20  # bytes of a frame's header: room for a set of four million chunks
PAYLOAD_LIMIT = 1 << 28

BEAT = 1.0  # seconds between signs of life
NEWS = 0.1  # seconds that the news of relayed chunks are collected for: most hosts have them by then
SILENCE = 60.0  # without one from the control node for so long, the agent ends: nothing stays listening
LOCK_PATIENCE = 70.0  # seconds: an agent of a run that was cut off is gone by then
DIAL_PATIENCE = 3.0  # seconds until a host counts as out of reach
ASK_PATIENCE = 3.0  # seconds until a chunk is asked of another host
PEER_SILENCE = 15.0  # seconds until a host that owes chunks is given up
PEER_WINDOW = 4  # chunks that one host is asked for at a time

# Runs the package that its argument names (see qsmr.hostmaker).
MAKER = "import sys; sys.path.insert(0, sys.argv[1]); from qsmr.hostmaker import main; main()"

# What goes wrong when the other side is gone, or does not keep to the protocol.
LOST = (OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, asyncio.TimeoutError)


class Channel:
    """Frames between two programs: a line of JSON, then as many bytes as its ``size`` says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int = PAYLOAD_LIMIT) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self.heard = time.monotonic()

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next frame; one of LOST when there is none or it is out of form."""
        line = await self._reader.readline()
        if not line:
            raise EOFError
        try:
            header: dict[str, Any] = json.loads(line)
        except RecursionError:
            raise ValueError("brackets within brackets") from None
        size = header.get("size", 0) if isinstance(header, dict) else None
        if not isinstance(size, int) or not 0 <= size <= self._limit:
            raise ValueError(f"a frame of size {size!r}")
        payload = await self._reader.readexactly(size) if size else b""
        self.heard = time.monotonic()
        return header, payload

    def send(self, kind: str, payload: bytes = b"", **values: Any) -> None:
        if self._writer.is_closing():
            return
        header = {"kind": kind, **values, **({"size": len(payload)} if payload else {})}
        self._writer.write(json.dumps(header).encode() + b"\n" + payload)

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was sent."""
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class Pace:
    """How many chunks may be under way: as many as arrive in some seconds, so that slow links queue few."""

    def __init__(self, seconds: float, least: int, most: int) -> None:
        self._seconds = seconds
        self._least = least
        self._most = most
        self._arrivals: deque[float] = deque(maxlen=most)

    def arrived(self) -> None:
        self._arrivals.append(time.monotonic())

    @property
    def limit(self) -> int:
        since = time.monotonic() - self._seconds
        while self._arrivals and self._arrivals[0] < since:
            self._arrivals.popleft()
        return max(self._least, min(len(self._arrivals) + 1, self._most))


def lowest(chunks: int) -> int:
    """The first chunk of a set that is not empty."""
    return (chunks & -chunks).bit_length() - 1


class Part:
    """A blob on its way into the staging directory. Its methods block: they are called in threads."""

    def __init__(self, staging: Path, sha256: str, size: int, first: int, digests: bytes) -> None:
        self.final = staging / sha256
        self.part = staging / f"{sha256}.part"
        self.sha256 = sha256
        self.size = size
        self.first = first
        self.count = len(digests) // 32
        self.chunks = ((1 << self.count) - 1) << first
        self.is_settled = False
        self._digests = digests
        self._file = -1

    def open(self) -> int:
        """The chunks that are there already."""
        with contextlib.suppress(FileNotFoundError):
            self._file = os.open(self.final, os.O_RDONLY)
            held = self._scan()
            if held == self.chunks and os.fstat(self._file).st_size == self.size:
                self.is_settled = True
                return held
            os.close(self._file)
            self.final.replace(self.part)  # damaged at rest
        self._file = self._open_alone()
        os.ftruncate(self._file, self.size)
        held = self._scan()
        disk = os.fstatvfs(self._file)
        missing = self.size - CHUNK * bin(held).count("1")
        if missing > disk.f_bavail * disk.f_frsize:
            free = disk.f_bavail * disk.f_frsize / 1e6
            raise OSError(errno.ENOSPC, f"{missing / 1e6:,.0f} MB are to come, {free:,.0f} MB are free", str(self.part))
        return held

    def _open_alone(self) -> int:
        """The partial file, once no other push writes to it."""
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            file = os.open(self.part, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, self.part)
                if self.part.exists() and os.path.samestat(os.fstat(file), self.part.stat()):
                    return file
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError(errno.EAGAIN, "another push writes it: wait for its end", str(self.part)) from None
                time.sleep(0.2)
            os.close(file)

    def _scan(self) -> int:
        held = 0
        for index in self._written():
            if self._is_right(index, self.read(index)):
                held |= 1 << self.first + index
        return held

    def _written(self) -> Iterator[int]:
        """The chunks of which something has ever been written: what is left out in a sparse file is not read."""
        index = 0
        while index < self.count:
            try:
                index = os.lseek(self._file, index * CHUNK, os.SEEK_DATA) // CHUNK
            except OSError:
                return  # nothing but a hole up to the end
            if index < self.count:
                yield index
            index += 1

    def _is_right(self, index: int, data: bytes) -> bool:
        return hashlib.sha256(data).digest() == self._digests[32 * index : 32 * (index + 1)]

    def read(self, index: int) -> bytes:
        return os.pread(self._file, CHUNK, index * CHUNK)

    def put(self, index: int, data: bytes) -> bool:
        """Write a chunk if it is what it should be."""
        if not self._is_right(index, data):
            return False
        written = 0
        while written < len(data):  # a disk that is almost full takes a part
            written += os.pwrite(self._file, data[written:], index * CHUNK + written)
        return True

    def settle(self) -> None:
        """Give the blob its name: each of its chunks was verified before it was written."""
        os.fsync(self._file)
        self.part.rename(self.final)
        directory = os.open(self.final.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


class Peer:
    """Another host of this push, and what passes between it and here."""

    def __init__(self, index: int, channel: Channel) -> None:
        self.index = index
        self.channel = channel
        self.held = 0
        self.asked: set[int] = set()
        self.requests: asyncio.Queue[int] = asyncio.Queue()


class Agent:
    """What runs on the host for the time of a push."""

    def __init__(self, control: Channel) -> None:
        self._control = control
        self._index = -1
        self._staging = Path()
        self._parts: list[Part] = []
        self._held = 0
        self._peers: dict[int, Peer] = {}
        self._banned: set[int] = set()
        self._asked: dict[int, float] = {}  # chunks asked of peers, and when
        self._pace = Pace(2.0, PEER_WINDOW, 64)
        self._news = 0  # chunks from peers that nobody has been told of yet
        self._tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        self._maker: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Work until the control node says that it is over, or is gone."""
        self._spawn(self._beat())
        self._spawn(self._tell_news())
        self._spawn(self._listen_to_control())
        await self._ended.wait()
        with contextlib.suppress(*LOST):
            await asyncio.wait_for(self._control.drain(), 5)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault of this host's own (its disk, mostly) ends the agent, and the user reads why."""
        try:
            await work
        except OSError as error:
            hint = " (make room and run again, what has arrived is kept)" if error.errno == errno.ENOSPC else ""
            self._fault(f"{error.filename or self._staging}: {error.strerror or error}{hint}")
        except Exception as error:
            self._fault(f"{type(error).__name__}: {error}")

    def _fault(self, text: str) -> None:
        self._control.send("fault", text=text)
        self._ended.set()

    @staticmethod
    async def _in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)

    # The control node

    async def _listen_to_control(self) -> None:
        while not self._ended.is_set():
            try:
                frame, payload = await self._control.receive()
            except LOST:
                self._ended.set()
                return
            kind = frame["kind"]
            if kind == "start":
                await self._start(frame, payload)
            elif kind == "blob":
                part = Part(self._staging, frame["sha256"], frame["length"], frame["first"], payload)
                self._spawn(self._open(part))
            elif kind == "chunk":
                await self._take(frame["n"], payload, None)
            elif kind == "make":
                self._spawn(self._make(frame["order"], payload))
            elif kind == "dial":
                self._spawn(self._dial(frame["peer"], frame["address"], frame["port"]))
            elif kind == "end":
                self._ended.set()

    async def _start(self, frame: dict[str, Any], credential: bytes) -> None:
        self._index = frame["index"]
        self._staging = Path(frame["staging"])
        await self._in_thread(_make_directory, self._staging)
        # For as long as this process lives: nobody prunes what a push is at.
        self._in_use = os.open(self._staging, os.O_RDONLY)
        _lock(self._in_use, fcntl.LOCK_SH, self._staging)
        address, port = "", 0
        if credential:
            self._tls = await self._in_thread(_tls_contexts, credential)
            address = _own_address()
        if self._tls and address:
            with contextlib.suppress(OSError):
                server = await asyncio.start_server(
                    self._accept, address, 0, ssl=self._tls[0], ssl_handshake_timeout=5, limit=LINE_LIMIT
                )
                port = server.sockets[0].getsockname()[1]
        self._control.send("ready", address=address, port=port)

    async def _open(self, part: Part) -> None:
        held = await self._in_thread(part.open)
        self._parts.append(part)
        self._held |= held
        self._control.send("holds", first=part.first, count=part.count, chunks=hex(held))
        for peer in self._peers.values():
            peer.channel.send("have", chunks=hex(held))
        if part.is_settled:
            self._tell_of_whole(part)
        self._settle_soon(part)
        self._ask()

    async def _make(self, order: dict[str, Any], package: bytes) -> None:
        """Have the image made of what arrives, by a program that comes as a zipped package."""
        well = False
        with contextlib.suppress(OSError), os.fdopen(os.memfd_create("qsmr-make"), "w+b") as file:
            file.write(package)
            file.flush()
            pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
            command = [sys.executable, "-c", MAKER, f"/proc/self/fd/{file.fileno()}"]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=nothing, stderr=nothing, pass_fds=[file.fileno()]
            )
            self._maker = process.stdin
            self._tell_maker(json.dumps(order))
            well = await process.wait() == 0
        self._control.send("made", well=well)

    def _tell_maker(self, line: str = "") -> None:
        if self._maker is not None and not self._maker.is_closing():
            self._maker.write(line.encode() + b"\n")

    async def _take(self, n: int, data: bytes, peer: Peer | None) -> None:
        """A chunk that has arrived."""
        part = self._part_of(n)
        if part is None:
            return
        is_right = await self._in_thread(part.put, n - part.first, data)
        if not is_right:
            if peer is None:
                self._control.send("bad", n=n)
            else:
                self._control.send("liar", peer=peer.index, n=n)
                self._ban(peer.index)
            return
        self._asked.pop(n, None)
        is_new = not self._held >> n & 1
        self._held |= 1 << n
        if peer is None:
            self._control.send("got", chunks=hex(1 << n), relayed=False)
            self._announce(1 << n if is_new else 0)
        elif is_new:
            self._news |= 1 << n
        self._settle_soon(part)

    def _announce(self, chunks: int) -> None:
        for peer in self._peers.values():
            if news := chunks & ~peer.held:
                peer.channel.send("have", chunks=hex(news))

    async def _tell_news(self) -> None:
        while True:
            await asyncio.sleep(NEWS)
            self._tell_of_relayed()

    def _tell_of_relayed(self) -> None:
        if self._news:
            self._control.send("got", chunks=hex(self._news), relayed=True)
            self._announce(self._news)
            self._news = 0

    def _settle_soon(self, part: Part) -> None:
        if not part.is_settled and self._held & part.chunks == part.chunks:
            part.is_settled = True
            self._spawn(self._settle(part))

    async def _settle(self, part: Part) -> None:
        await self._in_thread(part.settle)
        self._tell_of_whole(part)

    def _tell_of_whole(self, part: Part) -> None:
        self._tell_of_relayed()
        self._control.send("done", sha256=part.sha256)
        self._tell_maker()

    def _part_of(self, n: int) -> Part | None:
        return next((part for part in self._parts if part.first <= n < part.first + part.count), None)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            if now - self._control.heard > SILENCE:
                self._ended.set()
            self._control.send("beat")
            for n in [n for n, since in self._asked.items() if now - since > ASK_PATIENCE]:
                del self._asked[n]
            for peer in [peer for peer in self._peers.values() if peer.asked]:
                if now - peer.channel.heard > PEER_SILENCE:
                    peer.channel.close()
            self._ask()

    # Other hosts

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._talk(Channel(reader, writer, CHUNK))

    async def _dial(self, index: int, address: str, port: int) -> None:
        if self._tls is None or index in self._banned:
            return
        try:
            dialled = asyncio.open_connection(address, port, ssl=self._tls[1], limit=LINE_LIMIT)
            reader, writer = await asyncio.wait_for(dialled, DIAL_PATIENCE)
        except LOST:
            self._control.send("link", peer=index, up=False)
            return
        await self._talk(Channel(reader, writer, CHUNK))

    async def _talk(self, channel: Channel) -> None:
        """Trade chunks with a host, from the first frame to the end of the connection."""
        told = self._held
        channel.send("peer", index=self._index)
        channel.send("have", chunks=hex(told))
        try:
            hello, _nothing = await asyncio.wait_for(channel.receive(), DIAL_PATIENCE)
            peer = Peer(int(hello["index"]), channel)
        except LOST:
            channel.close()
            return
        if peer.index in self._banned:
            channel.close()
            return
        if peer.index in self._peers:  # it was lost and is back, before that was noticed here
            self._peers[peer.index].channel.close()
        self._peers[peer.index] = peer
        if self._held != told:  # news of the time in which nobody knew that this peer is one
            channel.send("have", chunks=hex(self._held))
        self._control.send("link", peer=peer.index, up=True)
        uploads = asyncio.ensure_future(self._upload(peer))
        try:
            while True:
                frame, payload = await channel.receive()
                await self._heed(peer, frame, payload)
        except LOST:
            pass
        finally:
            uploads.cancel()
            channel.close()
            for n in peer.asked:
                self._asked.pop(n, None)
            if self._peers.get(peer.index) is peer:
                del self._peers[peer.index]
                self._control.send("link", peer=peer.index, up=False)
            self._ask()

    async def _heed(self, peer: Peer, frame: dict[str, Any], payload: bytes) -> None:
        kind, n = frame["kind"], int(frame.get("n", 0))
        if kind == "have":
            peer.held |= int(frame["chunks"], 16)
            self._ask()
        elif kind == "get":
            peer.requests.put_nowait(n)
        elif kind == "chunk":
            peer.asked.remove(n)
            self._pace.arrived()
            self._spawn(self._take(n, payload, peer))
            self._ask()

    async def _upload(self, peer: Peer) -> None:
        while True:
            n = await peer.requests.get()
            part = self._part_of(n)
            if part is not None and self._held >> n & 1:
                peer.channel.send("chunk", await self._in_thread(part.read, n - part.first), n=n)
                with contextlib.suppress(*LOST):
                    await peer.channel.drain()

    def _ask(self) -> None:
        """Ask peers for what they hold and nobody has been asked for, at random, so that they hold different things."""
        missing = sum(part.chunks for part in self._parts) & ~self._held
        if not missing:
            return
        for n in self._asked:
            missing &= ~(1 << n)
        limit = self._pace.limit
        for peer in random.sample(list(self._peers.values()), len(self._peers)):
            choice = peer.held & missing
            for n in peer.asked:
                choice &= ~(1 << n)
            while choice and len(peer.asked) < PEER_WINDOW and len(self._asked) < limit:
                start = random.randrange(choice.bit_length())  # noqa: S311 nothing secret
                n = lowest(choice >> start << start or choice)
                peer.asked.add(n)
                self._asked[n] = time.monotonic()
                peer.channel.send("get", n=n)
                choice &= ~(1 << n)
                missing &= ~(1 << n)

    def _ban(self, index: int) -> None:
        self._banned.add(index)
        if index in self._peers:
            self._peers[index].channel.close()


def _lock(file: int, how: int, path: Path) -> None:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:
        hint = "its file system has no locks (NFS without them, say), set qsmr_host_dir to a directory on another"
        raise OSError(error.errno, f"{error.strerror}: {hint}", str(path)) from None


def _make_directory(staging: Path) -> None:
    os.umask(os.umask(0o022) | 0o022)  # the directories above it get what the umask leaves
    for directory in (staging.parent, staging):
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)


def _own_address() -> str:
    """The address that the control node reaches this host by; empty if it cannot be told.

    sudo hides it from the environment, but not from that of the processes which lead to it.
    """
    pid = os.getpid()
    with contextlib.suppress(OSError, LookupError, ValueError):
        while pid > 1:
            for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if entry.startswith(b"SSH_CONNECTION="):
                    return entry.split()[2].decode()
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return ""


def _tls_contexts(credential: bytes) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both ends show the certificate of this push, and take no other: its key comes by SSH and is in memory only."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    with os.fdopen(os.memfd_create("qsmr-push"), "w+b") as file:
        file.write(credential)
        file.flush()
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
            context.load_verify_locations(f"/proc/self/fd/{file.fileno()}")
    return server, client


async def serve() -> None:
    """Be the agent, on standard input and output."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    writer.write(GREETING)
    await Agent(Channel(reader, writer)).run()


if __name__ == "__main__":
    asyncio.run(serve())
