"""The Odin API as the program needs it: read JSON, deliver a level 2 document."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 60  # s
KEYS_SINCE_2020 = ("SBpath", "Tsat")


class ApiError(Exception):
    """One line for the job's output; it never holds the target URL, whose token is a permission."""


def call(method: str, url: str, content: Any = None, credentials: tuple[str, ...] = ()) -> tuple[int, str]:
    """Status and text of an answer, whatever the status; raises ApiError if there is none."""
    headers = {"Content-Type": "application/json"} if content is not None else {}
    if credentials:
        pair = ":".join(credentials if len(credentials) == 2 else (*credentials, ""))
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    body = None if content is None else json.dumps(content).encode()
    try:
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 (the job's own URL)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ApiError(f"no answer from {url.split('?')[0]}: {reason}") from None


def get(url: str) -> dict[str, Any]:
    status, text = call("GET", url)
    if status != 200:
        raise ApiError(f"{url} answered {status}: {gist(text)}")
    content: dict[str, Any] = json.loads(text)
    return content


def deliver(url: str, document: dict[str, Any], credentials: tuple[str, ...]) -> None:
    """POST a document; raises ApiError if the target does not take it.

    A target with the rules of 2016 takes a scan once only, so an old result is deleted first; and it knows fewer keys.
    """
    status, text = call("POST", url, document, credentials)
    if status == 400 and "unexpected key" in text and any(key in text for key in KEYS_SINCE_2020):
        document["L2I"] = {key: value for key, value in document["L2I"].items() if key not in KEYS_SINCE_2020}
        status, text = call("POST", url, document, credentials)
    if status == 400 and "already exist" in text:
        call("DELETE", url, credentials=credentials)
        status, text = call("POST", url, document, credentials)
    if not 200 <= status < 300:
        raise ApiError(f"the target did not take the result, it answered {status}: {gist(text)}")


def gist(text: str) -> str:
    """The readable beginning of an answer on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:200]
