"""A job service and an Odin API that answer as fast as Python can: ``count`` finished jobs, and level 2 of any scan."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIRST = 7_000_000_000
STEP = 1360  # ticks from one scan to the next


def serve(count: int, delay: float) -> None:
    """Both services on one port, which is printed: ``count`` finished jobs, and the level 2 of any scan."""
    sys.path[:0] = [str(Path(__file__).parents[1] / "plugins/module_utils")]
    from level2_documents import made_up

    document = made_up(FIRST)
    document["L2i"] |= {"ChannelsID": list(range(51)), "FitSpectrum": [[123.456 + k / 7 for k in range(17)]] * 51}
    parts = json.dumps({"Info": document}).split(str(FIRST))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if "/level2/" not in path:
                if path.endswith("/jobs"):
                    return self.say(200, b"".join(listing(count, "start=" in self.path, "finished" in self.path)))
                return self.say(200, json.dumps({"JobStates": {"Finished": count}}).encode())
            time.sleep(delay)
            if not path.endswith("/"):
                return self.say(308, b"", path + "/")
            return self.say(200, path.split("/")[-2].join(parts).encode())

        def say(self, status: int, body: bytes, location: str = "") -> None:
            head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n"
            head += f"Location: {location}\r\n" if location else ""
            self.wfile.write(head.encode() + b"\r\n" + body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def listing(count: int, news_only: bool, finished: bool) -> Iterator[bytes]:
    yield b'{"Jobs": ['
    numbers = range(max(0, count - 100) if news_only else 0, count if finished else 0)
    for number in numbers:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_700_000_000 + number))
        job = {"Id": f"1:{FIRST + STEP * number}", "Status": "FINISHED", "Worker": "UWorker_host1_a", "Finished": at}
        job |= {
            "Claimed": at,
            "ProcessingTime": 2.5,
            "IsClaimed": True,
            "Type": "qsmr",
            "URLS": {"URL-Output": "x" * 80},
        }
        yield json.dumps(job).encode() + (b"," if number < numbers[-1] else b"")
    yield b"]}"


@contextmanager
def services(count: int, delay: float) -> Iterator[str]:
    command = [sys.executable, __file__, str(count), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/rest_api"
        finally:
            process.kill()


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
