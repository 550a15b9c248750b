"""Read level 2 from the Odin API (v4 and v5 routes, eras 2016 to 2020)."""

from __future__ import annotations

import json
import re
import time
from datetime import date
from typing import Any, NamedTuple

from .errors import QsmrError
from .libraries import libraries
from .websession import web_session

with libraries():
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds between bytes
_LISTING_TRIES = 5
_HEAD = re.compile(r'\s*\{\s*"Info"\s*:\s*')


class OdinAnswerError(QsmrError):
    """The API answered, but not with what it should."""


class Level2(NamedTuple):
    """A level 2 document, and the same as strict JSON."""

    document: dict[str, Any]
    text: str


def _level2(text: str) -> Level2:
    """The document in a v4 answer; ValueError, KeyError, TypeError or RecursionError if it is none.

    Its text is taken from the answer: writing the numbers again would take longer than reading them.
    """
    words: list[str] = []
    decoder = json.JSONDecoder(parse_constant=words.append)
    head = _HEAD.match(text)
    if not head:
        document = decoder.decode(text)["Info"]
        return Level2(dict(document), json.dumps(document))
    document, end = decoder.raw_decode(text, head.end())
    return Level2(dict(document), json.dumps(document) if words else text[head.end() : end])


class OdinApi:
    """The level 2 routes below ``root``, which ends in ``/rest_api``.

    One instance keeps its connections open; reads are repeated when a connection breaks or a gateway answers.
    """

    def __init__(self, root: str, connections: int = 1) -> None:
        self.root = root
        self._session = web_session(root)
        retry = Retry(total=4, backoff_factor=0.5, status_forcelist=(502, 503, 504), allowed_methods=("GET",))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=connections))

    def level2(self, project: str, freq_mode: int, scan_id: int) -> Level2 | None:
        """The scan's level 2 as v4 shows it: ``L2`` (products), ``L2i``, later also ``L2c`` (comment lines).

        ``None`` when nothing is stored. A scan that could not be retrieved has an empty ``L2``. v4 shows
        development and published projects alike. The bare word NaN of older data is null. Raises OdinAnswerError for
        any other answer, QsmrError for none.
        """
        # The slash form: without it the server redirects.
        url = f"{self.root}/v4/level2/{project}/{freq_mode}/{scan_id}/"
        try:
            answer = self._session.get(url, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise QsmrError(f"GET {url}: no answer ({type(error).__name__}). Is the Odin API up?") from error
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise OdinAnswerError(
                f"GET {url}: status {answer.status_code}. Look at the Odin API's log, then run again."
            )
        try:
            return _level2(answer.content.decode())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise OdinAnswerError(f"GET {url}: not a level 2 document. Is ODIN_API_ROOT right?") from error

    def listing(self, path: str, key: str, **params: str) -> list[dict[str, Any]]:
        """The list under ``key`` of a listing's answer.

        Listings are slow, and some arrive truncated: what is no whole answer, or says another ``Count`` than it has
        entries, is read again. Raises QsmrError when that does not help, and for an answer that means a mistake.
        """
        url = f"{self.root}{path}"
        for attempt in range(_LISTING_TRIES):
            if attempt:
                time.sleep(attempt)
            try:
                answer = self._session.get(url, params=params, timeout=TIMEOUT)
                found = answer.json() if answer.status_code == 200 else None
            except (requests.RequestException, ValueError) as error:
                seen = f"no whole answer ({type(error).__name__})"
                continue
            seen = f"status {answer.status_code}"
            if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
                break
            if isinstance(found, dict) and isinstance(entries := found.get(key), list):
                if not all(isinstance(entry, dict) for entry in entries):
                    seen = "entries that are no objects"
                elif found.get("Count") in (None, len(entries)):
                    return entries
                else:
                    seen = f"{len(entries)} entries of {found['Count']}"
        raise QsmrError(f"GET {url}: {seen}. Check ODIN_API_ROOT, the frequency mode and the days, or try again later.")

    def last_weather_day(self) -> date:
        """The day of the newest weather data; scans from it on cannot be processed yet."""
        url = f"{self.root}/v5/config_data/latest_ecmf_file/"
        try:
            answer = self._session.get(url, timeout=TIMEOUT)
            return date.fromisoformat(answer.json()["Date"])
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise QsmrError(
                f"GET {url}: no date of the newest weather data ({type(error).__name__}). Try again, or give the days"
                " with qsmr_scans_from=period."
            ) from None
