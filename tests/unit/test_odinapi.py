"""Level 2 as the Odin API's ages answer it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from qsmr.errors import QsmrError
from qsmr.odinapi import OdinAnswerError, OdinApi


@pytest.fixture
def api():
    """An API that answers what the test sets: status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = OdinApi(f"http://127.0.0.1:{server.server_port}/rest_api")
        found.server = server
        yield found
        server.shutdown()


@pytest.mark.parametrize(
    "body",
    [
        '{"Info": {"L2": [{"Quality": NaN, "VMR": [1e-06, NaN]}]}}',
        ' { "Info" :\n{"L2": [{"Quality": null, "VMR": [1e-06, null]}]}, "Later": 1}',
        '{"Later": 1, "Info": {"L2": [{"Quality": null, "VMR": [1e-06, null]}]}}',
    ],
)
def test_document_and_text_are_the_same_and_strict(api, body):
    api.server.answer = (200, body.encode())
    found = api.level2("demo", 1, 7)
    assert found.document == {"L2": [{"Quality": None, "VMR": [1e-06, None]}]}
    assert json.loads(found.text, parse_constant=pytest.fail) == found.document


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (200, b"<html>"),
        (200, b'{"Info": {"L2": ['),
        (200, b'{"Info": 7}'),
        (200, b"[]"),
        (200, b"\xff"),
        (200, b'{"Info": ' + 10**5 * b"["),
    ],
)
def test_answer_that_is_no_document_is_told(api, status, body):
    api.server.answer = (status, body)
    with pytest.raises(OdinAnswerError, match="/v4/level2/demo/1/7/: "):
        api.level2("demo", 1, 7)


def test_nothing_stored_is_none_and_nobody_there_is_told(api):
    api.server.answer = (404, b"")
    assert api.level2("demo", 1, 7) is None
    with pytest.raises(QsmrError, match="Is the Odin API up") as caught:
        OdinApi("http://127.0.0.1:1/rest_api").level2("demo", 1, 7)
    assert not isinstance(caught.value, OdinAnswerError)
