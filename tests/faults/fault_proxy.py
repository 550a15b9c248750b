"""A proxy that does to requests what networks, front ends and dying services do, by a seeded random choice."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import urlsplit

from job_service_double import QuietServer

# How often each fault comes among the faults.
WEIGHTS = {
    "drop": 6,  # nothing reaches the service, the connection is reset
    "lose": 6,  # the service has done it, and the answer is lost
    "cut": 4,  # the service has done it, and half the answer arrives
    "late": 1,  # the answer takes longer than the client waits
    "500": 2,
    "502": 2,  # a front end's page
    "503": 1,  # with Retry-After
    "429": 1,  # with Retry-After
    "200": 1,  # a page of something that is no job service
    "401": 2,  # the token has expired
    "413": 1,  # too large for the front end, if it is a list of some length
}
# When an answer is late, and what is large: seconds, bytes.
LATE, LARGE = 2.5, 30_000


class FaultProxy:
    """Stands before the service at ``target`` (the part before ``/rest_api``) and spoils some of the requests."""

    def __init__(self, target: str, seed: int, share: float) -> None:
        self.target = urlsplit(target).netloc
        self.share = share
        self.random = random.Random(seed)  # noqa: S311 seeded on purpose
        self.lock = threading.Lock()

        class Handler(_Handler):
            proxy = self

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}/rest_api"

    def choose(self) -> str:
        with self.lock:
            if self.random.random() >= self.share:
                return ""
            return self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[FaultProxy]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        fault = self.proxy.choose()
        if fault == "drop" or len(body) < length:  # or the client was killed while it wrote
            return self.reset()
        if (fault == "413" and len(body) < LARGE) or (fault == "401" and self.command == "GET"):
            fault = ""
        if fault.isdigit():
            headers = {"Retry-After": "1"} if fault in ("503", "429") else {}
            return self.answer(int(fault), b"<html><title>A page of the front end</title></html>", headers)
        status, data = self.forward(body)
        if fault == "late":
            time.sleep(LATE)
        if fault == "lose":
            return self.reset()
        return self.answer(status, data, {}, cut=fault == "cut")

    do_PUT = do_POST = do_DELETE = do_GET

    def forward(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name in ("Authorization", "Content-Type")}
        connection.request(self.command, self.path, body or None, kept)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, data

    def answer(self, status: int, data: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        if cut and not data:
            return self.reset()
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        return self.reset() if cut else None

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
