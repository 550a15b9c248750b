"""What the control node asks of the Odin API (v4 and v5 routes, eras 2016 to 2020)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
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
_PAGE = 1000
# What a scan without a result is stored as; it is asked for with a scan that no satellite has made.
_NO_RESULT = {"L2": [], "L2I": {}, "L2C": "qsmr-fleet asks whether a second delivery is taken; this may be deleted"}
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


def _day_of(text: str) -> date:
    """A day as one or the other version writes it: 2015-01-11, or Sun, 11 Jan 2015 00:00:00 GMT."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").date()


class OdinApi:
    """The level 2 routes below ``root``, which ends in ``/rest_api``.

    One instance keeps its connections open; reads are repeated when a connection breaks or a gateway answers.
    """

    def __init__(self, root: str, connections: int = 1, tries: int = 5) -> None:
        self.root = root
        self._session = web_session(root)
        retry = Retry(total=tries - 1, backoff_factor=0.5, status_forcelist=(502, 503, 504), allowed_methods=("GET",))
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
        answer = self._ask("GET", url)
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

    def level2_count(self, project: str, freq_mode: int, listed: str, comment: str = "") -> int:
        """How many scans with level 2 there are (``scans``), or without a result (``failed``), with a comment line."""
        return self._level2_page(project, freq_mode, listed, comment, 0, 1)[0]

    def level2_scans(self, project: str, freq_mode: int, listed: str, comment: str) -> Iterator[int]:
        """The ids of these scans."""
        offset, count = 0, 1
        while offset < count:
            count, scans = self._level2_page(project, freq_mode, listed, comment, offset, _PAGE)
            yield from scans
            offset += _PAGE

    def _level2_page(
        self, project: str, freq_mode: int, listed: str, comment: str, offset: int, limit: int
    ) -> tuple[int, list[int]]:
        """The number of scans in a list of level 2, and those of a page. Nothing is stored of what is not found."""
        url = f"{self.root}/v4/level2/{project}/{freq_mode}/{listed}/"
        params: dict[str, str | int] = {"offset": offset, "limit": limit} | ({"comment": comment} if comment else {})
        answer = self._ask("GET", url, params=params)
        if answer.status_code == 404:
            return 0, []
        try:
            found = answer.json()["Info"]
            return int(found["Count"]), [int(entry["ScanID"]) for entry in found["Scans"]]
        except (ValueError, KeyError, TypeError):
            raise OdinAnswerError(f"GET {url}: status {answer.status_code}, no list. Is ODIN_API_ROOT right?") from None

    def refuses_second_delivery(self, target: str) -> bool:
        """Whether level 2 of a scan that has some is refused, as it was until 2017: seen at a target that nobody uses.

        Raises QsmrError if the API takes no such target.
        """
        taken = [self._ask("POST", target, json=_NO_RESULT).status_code == 201 for _ in range(2)]
        self.delete_level2(target)
        return not all(taken)

    def delete_level2(self, target: str) -> None:
        """Delete what was delivered to a target; there need not be anything."""
        answer = self._ask("DELETE", target)
        if answer.status_code != 204:
            raise OdinAnswerError(
                f"DELETE {target.partition('?')[0]}: status {answer.status_code}."
                " Are ODIN_SECRET, qsmr_target_version and qsmr_target_cipher those of the Odin API?"
            )

    def _ask(self, method: str, url: str, **options: Any) -> requests.Response:
        try:
            return self._session.request(method, url, timeout=TIMEOUT, **options)
        except requests.RequestException as error:
            shown = url.partition("?")[0]
            raise QsmrError(f"{method} {shown}: no answer ({type(error).__name__}). Is the Odin API up?") from None

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

    def scans_of_day(self, freq_mode: int, day: date) -> set[int]:
        """The ids of the scans that level 1 has of a day; none of a frequency mode that it does not know."""
        span = {"start_time": f"{day}", "end_time": f"{day + timedelta(days=1)}"}
        answer = self._ask("GET", f"{self.root}/v5/level1/{freq_mode}/scans/", params=span)
        if answer.status_code == 404:
            return set()
        return {int(entry["ScanID"]) for entry in self._data(answer)}

    def scans_by_day(self, first: date, days: int) -> dict[tuple[int, date], int]:
        """How many scans level 1 has, by frequency mode and day."""
        url = f"{self.root}/v5/period_info/{first:%Y/%m/%d}/"
        return {
            (int(entry["FreqMode"]), _day_of(entry["Date"])): int(entry["NumScan"])
            for entry in self._data(self._ask("GET", url, params={"length": days}))
        }

    def has_scan(self, freq_mode: int, scan_id: int) -> bool:
        """Whether level 1 has a log of a scan. What it answers for others differs: null, nothing, an error."""
        answer = self._ask("GET", f"{self.root}/v4/l1_log/{freq_mode}/{scan_id}/")
        try:
            return answer.status_code == 200 and bool(answer.json()["Info"]["ScanID"] == scan_id)
        except (ValueError, KeyError, TypeError):
            return False

    def check_level1(self) -> None:
        """Raise QsmrError unless this is an Odin API that lists level 1 by day."""
        self.scans_by_day(date(2015, 1, 11), 1)

    def _data(self, answer: requests.Response) -> list[dict[str, Any]]:
        """``Data`` of a listing. Raises OdinAnswerError where it is not whole."""
        try:
            found = answer.json()
            if answer.status_code == 200 and found.get("Count") in (None, len(found["Data"])):
                return list(found["Data"])
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise OdinAnswerError(f"GET {answer.url.partition('?')[0]}: status {answer.status_code}, no whole list")

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
