"""Send blobs to hosts through their SSH sessions, each byte once where the hosts can pass it on to each other.

Control node only. Each host runs hostagent.py for the time of the push. Without relay, every host gets every chunk it
lacks from here. With relay, a chunk leaves once, to whichever host has room for it first, and the hosts trade; what a
host cannot get from the others, because they are dead, slow, out of its reach or lie, it gets from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from .errors import QsmrError
from .hostagent import CHUNK, GREETING, LINE_LIMIT, LOST, Channel, Pace, lowest
from .hostmaker import package
from .libraries import libraries

with libraries():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

RELAY_FROM = 3  # hosts: fewer gain little from each other
ATTEMPTS = 3  # sessions for each host; what came in one is not sent again in the next
PAUSE = 2.0  # seconds between two of them
STARTS_AT_ONCE = 20  # sessions that begin at the same time: jump hosts refuse more
START_PATIENCE = 60.0  # seconds from a session's start to the agent's first words
END_PATIENCE = 2.0  # seconds until a session's program that does not end is ended
SILENCE = 20.0  # seconds without a sign of life until a session is given up
SUSPICION = 3.0  # seconds until others are served as if such a host were gone
PATIENCE = 2.0  # seconds that a host is left to the others before it is served from here
LATE = 1.0  # seconds after which, in the end, another host is sent what is still on its way to a slow one
BEAT = 5.0  # seconds between signs of life to the hosts
REPORT = 0.5  # seconds between two reports
PEERS = 12  # connections between hosts, for each of them, about
MOST_DAMAGED = 3  # chunks that may arrive damaged at one host
SSH_FAILED = 255
MOST_UNDER_WAY = 16  # chunks on their way to one host
MOST_ALONE = 16  # chunks that one host alone holds: how well it passes them on decides, up to so many

_PIPE = asyncio.subprocess.PIPE

# Reads the agent's source from standard input, no byte more: the rest is the agent's.
_BOOTSTRAP = """\
import os
def take(n):
    data = b""
    while len(data) < n:
        data += os.read(0, n - len(data)) or exit(1)
    return data
exec(compile(take(int(take(8))), "qsmr-push", "exec"))
"""


def agent_command(python: str) -> list[str]:
    """What a host has to run."""
    return [python, "-c", f"exec({_BOOTSTRAP!r})"]


class Blob(Protocol):
    """A file on the control node that is named by the SHA-256 of its bytes (hexadecimal)."""

    @property
    def sha256(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Start:
    """A command that runs ``agent_command`` on the host, and how to start it (keywords of ``subprocess.Popen``).

    ``prompt`` is what asks for ``password`` on its standard error, ``success`` what it prints once that was right;
    empty where no other user is needed. ``started`` is called with the process running, ``ended`` when it is over.
    """

    command: Sequence[str | bytes]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    prompt: bytes = b""
    success: bytes = b""
    password: str = field(default="", repr=False)
    started: Callable[[], None] = lambda: None
    ended: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Job:
    """What one host is to get: blobs, into a directory there.

    ``start`` is called for each session; it raises QsmrError where there can be none. ``make`` is what to make of the
    blobs as they arrive (see qsmr.hostmaker); empty for nothing.
    """

    blobs: Sequence[Blob]
    staging: str
    start: Callable[[], Start]
    make: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs)


@dataclass
class Outcome:
    """How it went for one host. ``fault`` is one line for the user, empty if all blobs are there.

    Bytes: ``resumed`` were there from an earlier run, ``sent`` left the control node, ``resent`` of them for nothing or
    a second time, ``relayed`` came from other hosts. ``seconds`` until all was there or given up. ``made`` tells
    whether what was to be made of it was made meanwhile.
    """

    fault: str = ""
    unreachable: bool = False
    sent: int = 0
    resent: int = 0
    relayed: int = 0
    resumed: int = 0
    seconds: float = 0.0
    made: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """How far a push is: bytes at the hosts and bytes sent from here, hosts that have everything.

    ``loading`` is how many of those still make something of it, ``shares`` how much of its bytes each host has, in
    percent.
    """

    total: int
    held: int
    resumed: int
    sent: int
    hosts: int
    complete: int
    loading: int
    failed: int
    shares: Mapping[str, int]


def uses_relay(mode: str, hosts: int) -> bool:
    """Whether so many hosts pass chunks on: as ``qsmr_push_mode`` says, direct, relay or auto."""
    return mode == "relay" or (mode == "auto" and hosts >= RELAY_FROM)


def distribute(
    jobs: Mapping[str, Job],
    *,
    relay: bool,
    bandwidth: float = 0,
    at_once: int = 0,
    report: Callable[[Report], None] = lambda _report: None,
) -> dict[str, Outcome]:
    """Bring each host its blobs.

    ``bandwidth`` limits the control node's uplink (bytes a second), ``at_once`` the number of hosts served at a time
    without relay; 0: no limit. Raises QsmrError where a blob here is damaged.
    """
    return asyncio.run(_Push(jobs, relay, bandwidth, at_once, report).run())


@dataclass
class _File:
    """A blob on this side, and which numbers its chunks have."""

    blob: Blob
    first: int
    digests: bytes = b""
    is_hashed: bool = False

    @property
    def count(self) -> int:
        return (self.blob.size + CHUNK - 1) // CHUNK

    @property
    def chunks(self) -> int:
        return ((1 << self.count) - 1) << self.first

    def bytes_in(self, chunks: int) -> int:
        """Size of those of its chunks that are in the set; the last one may be short."""
        mine = (chunks & self.chunks) >> self.first
        cut = self.count * CHUNK - self.blob.size if self.count and mine >> (self.count - 1) else 0
        return mine.bit_count() * CHUNK - cut

    def read(self, n: int) -> bytes:
        try:
            with self.blob.path.open("rb") as stream:
                return os.pread(stream.fileno(), CHUNK, (n - self.first) * CHUNK)
        except OSError as error:
            raise QsmrError(f"{self.blob.path} cannot be read: {error.strerror or error}") from None

    def hash(self) -> None:
        whole, parts = hashlib.sha256(), []
        try:
            with self.blob.path.open("rb") as stream:
                while data := stream.read(CHUNK):
                    whole.update(data)
                    parts.append(hashlib.sha256(data).digest())
        except OSError as error:
            raise QsmrError(f"{self.blob.path} cannot be read: {error.strerror or error}") from None
        if whole.hexdigest() != self.blob.sha256:
            raise QsmrError(f"{self.blob.path} is damaged: its SHA-256 is {whole.hexdigest()}; remove it and run again")
        self.digests, self.is_hashed = b"".join(parts), True

    def is_right(self, n: int) -> bool:
        digest = hashlib.sha256(self.read(n)).digest()
        return digest == self.digests[32 * (n - self.first) : 32 * (n - self.first + 1)]


class _Bucket:
    """Lets bytes through at a rate; in pieces, a chunk at a time."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    async def take(self, size: int) -> None:
        if self._rate:
            now = time.monotonic()
            self._free = max(self._free, now)
            wait = self._free - now
            self._free += size / self._rate
            await asyncio.sleep(wait)


class _Lost(Exception):
    """A session ended before its time; the text says why, in one line."""

    def __init__(self, text: str, *, unreachable: bool = False, is_final: bool = False) -> None:
        super().__init__(text)
        self.unreachable = unreachable
        self.is_final = is_final


class _Malformed(ValueError):
    """What a host says does not keep to the protocol. That is its own loss and nobody else's."""


class _Host:
    """One host: what it holds, lacks and is being sent. Sets of chunks are integers, a bit for each."""

    def __init__(self, name: str, index: int, job: Job, files: Sequence[_File]) -> None:
        self.name = name
        self.index = index
        self.job = job
        self.files = files
        self.outcome = Outcome()
        self.is_over = False
        self.held = 0
        self.arrived = 0  # in any session
        self.sent = 0
        self.damaged = 0
        self.liars: set[int] = set()
        self.wake = asyncio.Event()
        self.begin(None)

    def begin(self, channel: Channel | None) -> None:
        """A session begins, or ends."""
        self.channel = channel
        self.is_making = bool(channel and self.job.make)
        self.known = 0  # chunks of which the host has told whether it holds them
        self.announced: set[str] = set()
        self.told = 0  # chunks of the blobs that were announced
        self.settled: set[str] = set()
        self.under_way: dict[int, float] = {}  # since when
        self.links: set[int] = set()
        self.port: int | None = None  # 0: the host listens to nobody
        self.address = ""
        self.pace = Pace(0.5, 2, MOST_UNDER_WAY)
        self.alone: dict[int, float] = {}  # chunks from here that no other host has, since when
        self.alone_limit = 8.0
        self.ready = self.last_got = time.monotonic()
        self.gots = 0

    @property
    def lacks(self) -> int:
        return self.known & ~self.held

    @property
    def is_complete(self) -> bool:
        return len(self.settled) == len(self.files)

    def is_alive(self, now: float) -> bool:
        return self.channel is not None and self.port is not None and now - self.channel.heard < SUSPICION

    @property
    def patience(self) -> float:
        """How long nothing may come before the host is hungry: longer where chunks arrive seldom."""
        return max(PATIENCE, 3 * (self.last_got - self.ready) / self.gots if self.gots else 0)

    def bytes_in(self, chunks: int) -> int:
        return sum(file.bytes_in(chunks) for file in self.files)

    def chunks_in(self, frame: Mapping[str, Any]) -> int:
        """The set of chunks that the host tells of; they have to be of blobs that it was told of."""
        chunks = int(frame["chunks"], 16)
        if chunks & ~self.told:
            raise _Malformed("chunks that do not exist")
        return chunks

    def chunk_in(self, frame: Mapping[str, Any]) -> int:
        """The chunk that the host tells of."""
        n = frame["n"]
        if not isinstance(n, int) or n < 0 or not self.told >> n & 1:
            raise _Malformed("a chunk that does not exist")
        return n

    def file_in(self, frame: Mapping[str, Any]) -> _File:
        """The blob that the host tells of, by its chunks or its name."""
        for file in self.files:
            if file.blob.sha256 in self.announced and (
                frame["sha256"] == file.blob.sha256
                if "sha256" in frame
                else (frame["first"], frame["count"]) == (file.first, file.count)
            ):
                return file
        raise _Malformed("a blob that does not exist")


class _Push:
    """One call of ``distribute``."""

    def __init__(
        self, jobs: Mapping[str, Job], relay: bool, bandwidth: float, at_once: int, report: Callable[[Report], None]
    ) -> None:
        self._relay = relay
        self._bucket = _Bucket(bandwidth)
        self._report = report
        self._files: dict[str, _File] = {}
        first = 0
        for blob in (blob for job in jobs.values() for blob in job.blobs):
            if blob.sha256 not in self._files:
                self._files[blob.sha256] = _File(blob, first)
                first += self._files[blob.sha256].count
        self._hosts = [
            _Host(name, index, job, [self._files[sha256] for sha256 in dict.fromkeys(b.sha256 for b in job.blobs)])
            for index, (name, job) in enumerate(jobs.items())
        ]
        self._handed: dict[int, float] = {}  # chunks that have been sent to somebody, and when last
        self._usual = 0.0  # seconds from sending a chunk to the word that it is there
        self._dialled: set[tuple[int, int]] = set()
        self._seats = asyncio.Semaphore(at_once if at_once and not relay else max(1, len(jobs)))
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._began = time.monotonic()
        self._credential = _credential() if relay else b""
        self._source = Path(__file__).with_name("hostagent.py").read_bytes()
        self._maker = package() if any(job.make for job in jobs.values()) else b""

    async def run(self) -> dict[str, Outcome]:
        tasks = [asyncio.create_task(work) for work in (self._hash(), *map(self._serve, self._hosts))]
        ticking = asyncio.create_task(self._tick())
        try:
            await _first_fault(tasks, ticking)
        except BaseException:
            await _cancelled([ticking, *tasks])
            with contextlib.suppress(QsmrError):  # it must not hide what went wrong
                self._tell()
            raise
        await _cancelled([ticking])
        self._tell()
        return {host.name: host.outcome for host in self._hosts}

    async def _hash(self) -> None:
        for file in self._files.values():
            await asyncio.to_thread(file.hash)
            for host in self._hosts:
                self._announce(host)

    async def _tick(self) -> None:
        beaten = 0.0
        while True:
            await asyncio.sleep(REPORT)
            self._tell()
            now = time.monotonic()
            for host in self._hosts:
                host.wake.set()
                if host.channel and now - beaten >= BEAT:
                    host.channel.send("beat")
            beaten = now if now - beaten >= BEAT else beaten

    def _tell(self) -> None:
        hosts = self._hosts
        self._report(
            Report(
                total=sum(host.job.size for host in hosts),
                held=sum(host.bytes_in(host.held) for host in hosts),
                resumed=sum(host.outcome.resumed for host in hosts),
                sent=sum(host.outcome.sent for host in hosts),
                hosts=len(hosts),
                complete=sum(host.is_over and not host.outcome.fault for host in hosts),
                loading=sum(host.is_over and host.is_making for host in hosts),
                failed=sum(bool(host.is_over and host.outcome.fault) for host in hosts),
                shares={host.name: 100 * host.bytes_in(host.held) // max(host.job.size, 1) for host in hosts},
            )
        )

    # Sessions

    async def _serve(self, host: _Host) -> None:
        """Sessions until the host has everything, or there is no hope."""
        async with self._seats:
            for attempt in range(ATTEMPTS if host.files else 0):
                await asyncio.sleep(PAUSE if attempt else 0)
                try:
                    await self._session(host)
                    host.outcome.fault, host.outcome.unreachable = "", False
                    break
                except _Lost as error:
                    host.outcome.fault, host.outcome.unreachable = str(error), error.unreachable
                    if error.is_final:
                        break
            self._settle(host)

    async def _session(self, host: _Host) -> None:
        async with self._starts:
            try:
                start = host.job.start()
            except QsmrError as error:
                raise _Lost(str(error), is_final=True) from None
            try:
                process = await asyncio.create_subprocess_exec(
                    *start.command, stdin=_PIPE, stdout=_PIPE, stderr=_PIPE, limit=LINE_LIMIT, **start.keywords
                )
            except (OSError, ValueError) as error:
                start.ended()
                raise _Lost(
                    f"{os.fsdecode(start.command[0])} cannot be started here: {_one_line(str(error))}"
                ) from None
            words = _Words(process, start)
            tasks: list[asyncio.Task[None]] = [asyncio.create_task(words.listen())]
            reader, writer = cast(asyncio.StreamReader, process.stdout), cast(asyncio.StreamWriter, process.stdin)
            try:
                start.started()
                await asyncio.wait_for(self._greet(reader, writer, start), START_PATIENCE)
            except LOST:
                failure = await words.failure("The host did not begin to receive")
                await self._end(process, start, tasks)
                raise failure from None
            except BaseException:
                await self._end(process, start, tasks)
                raise
        host.begin(Channel(reader, writer, 0))
        host.held = 0
        self._dialled = {pair for pair in self._dialled if host.index not in pair}
        try:
            host.channel.send("start", self._credential, index=host.index, staging=host.job.staging)  # type: ignore[union-attr]
            if host.is_making:
                host.channel.send("make", self._maker, order=host.job.make)  # type: ignore[union-attr]
            feeding, hearing = asyncio.create_task(self._feed(host)), asyncio.create_task(self._hear(host))
            tasks += [feeding, hearing]
            await asyncio.wait({feeding, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()
            await hearing
        except LOST as error:
            if not host.is_complete and isinstance(error, _Malformed):
                raise _Lost(f"what the host answers is out of form ({error}): does a start file print there?") from None
            if not host.is_complete:
                raise await words.failure("The connection was lost") from None
        finally:
            host.begin(None)
            for other in self._hosts:
                other.links.discard(host.index)
            await self._end(process, start, tasks)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: Start) -> None:
        """Have the agent started, once another user's rights are there."""
        if start.success:
            await _read_past(reader, start.success)
        writer.write(f"{len(self._source):08}".encode() + self._source)
        await _read_past(reader, GREETING.strip())

    @staticmethod
    async def _end(process: asyncio.subprocess.Process, start: Start, tasks: Iterable[asyncio.Task[None]]) -> None:
        await _cancelled(tasks)
        if process.stdin:
            process.stdin.close()
        # A master of SSH connections needs its time to hand them over.
        for last_resort in (0, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, last_resort)  # process.kill() would take its exit code from asyncio
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), END_PATIENCE)
                break
        start.ended()

    def _settle(self, host: _Host) -> None:
        """There is nothing more to come for this host."""
        if not host.is_over:
            host.is_over = True
            host.outcome.seconds = time.monotonic() - self._began
        self._dismiss()

    def _dismiss(self) -> None:
        """Let those hosts go that have and made everything, and that nobody needs any more."""
        is_over = not self._relay or all(host.is_over for host in self._hosts)
        for host in self._hosts:
            host.wake.set()
            if host.channel and host.is_complete and not host.is_making and is_over:
                host.channel.send("end")

    # What hosts say

    async def _hear(self, host: _Host) -> None:
        channel = host.channel
        while channel is not None:
            try:
                frame, _nothing = await asyncio.wait_for(channel.receive(), SILENCE)
            except ValueError as error:
                raise _Malformed(_one_line(str(error))) from None
            try:
                self._heed(host, channel, frame)
            except _Malformed:
                raise
            except (ValueError, LookupError, TypeError, ArithmeticError) as error:
                raise _Malformed(f"{type(error).__name__} in {_one_line(str(frame.get('kind')))[:40]}") from None

    def _heed(self, host: _Host, channel: Channel, frame: Mapping[str, Any]) -> None:
        kind = frame["kind"]
        if kind == "ready":
            address, port = frame["address"], frame["port"]
            if not isinstance(address, str) or not isinstance(port, int) or not 0 <= port < 1 << 16:
                raise _Malformed("an address that cannot be")  # others would be told to connect to it
            host.address, host.port = address, port
            self._introduce(host)
            self._announce(host)
        elif kind == "holds":
            mask, held = host.file_in(frame).chunks, host.chunks_in(frame)
            if held & ~mask:
                raise _Malformed("chunks of another blob")
            host.known |= mask
            host.held = host.held & ~mask | held
            host.outcome.resumed += host.bytes_in(held & ~host.arrived)
            host.arrived |= held
            host.wake.set()
        elif kind == "got":
            for n in _members(host.chunks_in(frame)):
                self._got(host, n, frame["relayed"])
        elif kind == "done":
            host.settled.add(host.file_in(frame).blob.sha256)
            if host.is_complete:
                self._settle(host)
        elif kind == "made":
            host.is_making, host.outcome.made = False, frame["well"] is True
            self._dismiss()
        elif kind == "link":
            for other in self._named(host, frame):
                self._link(host, other, frame["up"])
        elif kind == "liar":
            for other in self._named(host, frame):
                self._blame(host, other, host.chunk_in(frame))
        elif kind == "bad":
            self._check(host, host.chunk_in(frame))
        elif kind == "fault":
            raise _Lost(_one_line(str(frame["text"])), is_final=True)

    def _named(self, host: _Host, frame: Mapping[str, Any]) -> Iterator[_Host]:
        """The other host that this one tells of, if there is such a one: the name is what that one called itself."""
        return (other for other in self._hosts if other.index == frame["peer"] and other is not host)

    def _announce(self, host: _Host) -> None:
        """Tell a host of the blobs that are for it, as soon as their chunks are known."""
        if host.channel is None or host.port is None:
            return
        for file in host.files:
            blob = file.blob
            if blob.sha256 not in host.announced and file.is_hashed:
                host.announced.add(blob.sha256)
                host.told |= file.chunks
                host.channel.send("blob", file.digests, sha256=blob.sha256, length=blob.size, first=file.first)

    def _introduce(self, host: _Host) -> None:
        """Have a new host connected with others: with all, or with some at random where they are many."""
        others = [other for other in self._hosts if other is not host and other.port is not None]
        for other in random.sample(others, min(len(others), max(PEERS // 2, PEERS - len(others)))):
            if not self._dial(host, other):
                self._dial(other, host)

    def _dial(self, caller: _Host, called: _Host) -> bool:
        """Have ``caller`` connect to ``called``, once; false if that is no use."""
        if (caller.index, called.index) in self._dialled or not caller.channel or not called.port or not self._relay:
            return False
        self._dialled.add((caller.index, called.index))
        caller.channel.send("dial", peer=called.index, address=called.address, port=called.port)
        return True

    def _link(self, host: _Host, other: _Host, is_up: bool) -> None:
        if is_up:
            host.links.add(other.index)
            other.links.add(host.index)
        else:
            host.links.discard(other.index)
            other.links.discard(host.index)
            if other.index not in host.liars:
                self._dial(other, host)
        host.wake.set()

    def _got(self, host: _Host, n: int, relayed: bool) -> None:
        now = time.monotonic()
        file = self._file_of(n)
        if relayed:
            host.outcome.relayed += file.bytes_in(1 << n)
        elif host.held >> n & 1:
            host.outcome.resent += file.bytes_in(1 << n)  # another host was faster
        since = host.under_way.pop(n, None)
        if since is not None:
            host.pace.arrived()
            self._usual += (now - since - self._usual) / 16
        is_alone = True
        for other in self._hosts:
            if other is not host and other.held >> n & 1:
                is_alone = False
                alone = other.alone.pop(n, None)
                if alone is not None:
                    # How soon others have what it got tells how much it can pass on.
                    grown = other.alone_limit + 0.5 if now - alone < LATE else other.alone_limit / 2
                    other.alone_limit = min(max(grown, 1), MOST_ALONE)
                    other.wake.set()
        if is_alone and not relayed:
            host.alone[n] = now
        host.held |= 1 << n
        host.arrived |= 1 << n
        host.last_got = now
        host.gots += 1
        host.wake.set()

    def _blame(self, host: _Host, liar: _Host, n: int) -> None:
        host.liars.add(liar.index)
        self._link(host, liar, False)
        name = self._file_of(n).blob.sha256
        host.outcome.notes.append(
            f"{liar.name} passed on wrong bytes of {name[:12]} (chunk {n - self._file_of(n).first}): not asked again"
        )

    def _check(self, host: _Host, n: int) -> None:
        """A host says that a chunk from here is wrong: is it so at rest, or did it become so on its way?"""
        file = self._file_of(n)
        if not file.is_right(n):
            raise QsmrError(f"{file.blob.path} has changed while it was sent: remove it and run again")
        host.under_way.pop(n, None)
        host.damaged += 1
        host.outcome.notes.append(f"a chunk of {file.blob.sha256[:12]} was damaged on its way, and sent again")
        if host.damaged > MOST_DAMAGED:
            raise _Lost("what is sent to this host arrives damaged: check its memory and network", is_final=True)
        host.wake.set()

    # What is sent to whom

    async def _feed(self, host: _Host) -> None:
        channel = host.channel
        while channel is not None:
            n = self._choose(host, time.monotonic())
            if n is None:
                host.wake.clear()
                await host.wake.wait()
                continue
            file = self._file_of(n)
            size = file.bytes_in(1 << n)
            host.under_way[n] = self._handed[n] = time.monotonic()
            await self._bucket.take(size)
            data = await asyncio.to_thread(file.read, n)
            channel.send("chunk", data, n=n)
            host.outcome.sent += size
            host.outcome.resent += size if host.sent >> n & 1 else 0
            host.sent |= 1 << n
            try:
                await channel.drain()
            except LOST:
                return  # whoever listens to this host sees its end, too

    def _choose(self, host: _Host, now: float) -> int | None:
        """The chunk to send to this host now, if any."""
        lacks = host.lacks & ~_set(host.under_way)
        if not lacks or len(host.under_way) >= host.pace.limit:
            return None
        others = [other for other in self._hosts if other is not host and other.is_alive(now)]
        if not self._relay or not others:
            return lowest(lacks)
        held = pending = needed = reachable = expected = late = 0
        for other in others:
            sending = _set(other.under_way)
            held |= other.held
            pending |= sending
            if other.index in host.links:
                needed |= other.lacks
                reachable |= other.held
                expected |= sending
            late |= _set(n for n, since in other.under_way.items() if now - since > max(LATE, 3 * self._usual))
        fresh = lacks & ~held & ~pending
        if not host.links and now - host.ready > PATIENCE:
            return lowest(fresh or lacks)
        is_hungry = now - host.last_got > host.patience and len(host.under_way) < 2
        if fresh:
            # Those get more that have passed on what they got.
            burden = len(host.under_way) + (_set(host.alone) & needed).bit_count()
            return lowest(fresh) if is_hungry or burden < host.alone_limit else None
        orphans = lacks & ~reachable & ~expected
        again = lacks if is_hungry else orphans | lacks & late & ~held
        return next((n for n in _members(again) if is_hungry or now - self._handed.get(n, 0) > LATE), None)

    def _file_of(self, n: int) -> _File:
        return next(file for file in self._files.values() if file.first <= n < file.first + file.count)


class _Words:
    """What a session's program says on its standard error; a prompt for a password is answered."""

    def __init__(self, process: asyncio.subprocess.Process, start: Start) -> None:
        self._process = process
        self._start = start
        self._said = b""
        self._answered = False

    async def listen(self) -> None:
        said = cast(asyncio.StreamReader, self._process.stderr)
        while data := await said.read(4096):
            self._said = (self._said + data)[-4096:]
            if self._start.prompt and self._start.prompt in self._said:
                if self._answered:
                    self._said = b"Incorrect become password"
                    os.kill(self._process.pid, signal.SIGKILL)
                    return
                self._answered = True
                self._said = b""
                cast(asyncio.StreamWriter, self._process.stdin).write(self._start.password.encode() + b"\n")

    async def failure(self, what: str) -> _Lost:
        """Why the session ended, in one line."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), 1)
            await asyncio.sleep(0.1)  # for the last words: a master of SSH connections keeps that pipe open
        lines = [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        code = self._process.returncode
        return _Lost(
            f"{what}: {_one_line(lines[-1] if lines else 'no answer' if code is None else f'exit code {code}')}",
            unreachable=code == SSH_FAILED,
            is_final=lines[-1:] == ["Incorrect become password"],
        )


def _set(chunks: Iterable[int]) -> int:
    number = 0
    for n in chunks:
        number |= 1 << n
    return number


def _members(chunks: int) -> Iterator[int]:
    while chunks:
        n = lowest(chunks)
        yield n
        chunks &= ~(1 << n)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


async def _read_past(reader: asyncio.StreamReader, words: bytes) -> None:
    """Skip lines up to the one that has these words."""
    while words not in (line := await reader.readline()):
        if not line:
            raise EOFError


async def _first_fault(tasks: Iterable[asyncio.Task[None]], beside: asyncio.Task[None]) -> None:
    """Wait for all tasks; raises what the first that fails raises, or the one without end that runs ``beside`` them."""
    left = {beside, *tasks}
    while left - {beside}:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _credential() -> bytes:
    """A certificate and its key for one push (PEM), kept nowhere. Hosts' clocks may be wrong, so no date matters."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "qsmr-push")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return certificate.public_bytes(encoding) + key.private_bytes(encoding, kind, serialization.NoEncryption())
