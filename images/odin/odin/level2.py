"""Level 2 out: what was delivered, on v4 and v5 paths.

v4 shows all projects. v5 is registered twice: for projects under development, and for published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, current_app, jsonify, request

from . import scans
from .level1 import root, scan_urls
from .store import Document, Store

v4 = Blueprint("level2_v4", __name__)
v5 = Blueprint("level2_v5", __name__)

Json = dict[str, Any]
SCAN = "/<project>/<freqmode:freqmode>/<scanid:scanid>/"
DEFAULT_LIMIT = 1000


def database() -> Store:
    store: Store = current_app.extensions["store"]
    return store


def found(project: str, freqmode: int, scanid: int) -> Document:
    document = database().get(project, freqmode, scanid)
    return document or abort(404, f"project {project} has no level 2 of scan {scanid}, frequency mode {freqmode}")


def number_argument(name: str, default: int, lowest: int) -> int:
    text = request.args.get(name, f"{default}")
    if not (text.isascii() and text.isdigit() and lowest <= int(text[:18]) and len(text) < 19):
        abort(400, f"{name} must be a number from {lowest}")
    return int(text)


def time_argument(name: str) -> int | None:
    """The first scan id of a time in the query."""
    if (text := request.args.get(name)) is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        abort(400, f"{name} must be YYYY-MM-DD or an ISO 8601 time")
    return scans.first_id(when if when.tzinfo else when.replace(tzinfo=UTC))


def page(query: Any, entry: Callable[[Any], Any]) -> tuple[int, list[Any], dict[str, str]]:
    """Total count, entries of the page that the query parameters offset and limit name, and the Link header."""
    offset, limit = number_argument("offset", 0, 0), number_argument("limit", DEFAULT_LIMIT, 1)
    count, rows = database().page(query, offset, limit)

    def link(relation: str, start: int) -> str:
        arguments = {**request.args, "offset": start, "limit": limit}
        return f'<{request.base_url}?{urlencode(arguments)}>; rel="{relation}"'

    links = [link("first", 0)]
    if offset:
        links.append(link("prev", max(0, offset - limit)))
    if offset + limit < count:
        links.append(link("next", offset + limit))
    links.append(link("last", max(0, count - 1) // limit * limit))
    return count, [entry(row) for row in rows], {"Link": ", ".join(links)}


def v4_list(name: str, query: Any, entry: Callable[[Any], Any]) -> Response:
    count, entries, headers = page(query, entry)
    return reply({"Info": {"Count": count, name: entries}}, headers)


def v5_list(kind: str, query: Any, entry: Callable[[Any], Any]) -> Response:
    count, entries, headers = page(query, entry)
    return reply({"Data": entries, "Type": kind, "Count": count}, headers)


def reply(content: Json, headers: dict[str, str]) -> Response:
    response = jsonify(content)
    response.headers.update(headers)
    return response


# --- what a list's entries look like, `base` being the URL of level 2 as it is read -------------------------------


def project_entry(base: str) -> Callable[[Any], Json]:
    return lambda row: {"Name": row.name, "URLS": {"URL-project": f"{base}/{row.name}/"}}


def freqmode_entry(base: str, project: str) -> Callable[[Any], Json]:
    return lambda row: {
        "FreqMode": row.freqmode,
        "URLS": {f"URL-{name}": f"{base}/{project}/{row.freqmode}/{name}/" for name in ("scans", "failed", "comments")},
    }


def comment_entry(base: str, project: str, freqmode: int) -> Callable[[Any], Json]:
    return lambda row: {
        "Comment": row.text,
        "URLS": {
            f"URL-{name}": f"{base}/{project}/{freqmode}/{name}/?{urlencode({'comment': row.text})}"
            for name in ("scans", "failed")
        },
    }


def scan_entry(base: str, project: str, freqmode: int, failed: bool) -> Callable[[Any], Json]:
    def entry(row: Any) -> Json:
        error = {"Error": row.l2c[-1] if row.l2c else ""} if failed else {}
        date = f"{scans.utc(scans.mjd(row.scanid)):%Y-%m-%d}"
        return {"ScanID": row.scanid, "Date": date, "URLS": urls(base, project, freqmode, row.scanid), **error}

    return entry


def urls(base: str, project: str, freqmode: int, scanid: int) -> Json:
    return {"URL-level2": f"{base}/{project}/{freqmode}/{scanid}/", **scan_urls(freqmode, scanid)}


def scans_query(project: str, freqmode: int, failed: bool) -> Any:
    start, end = time_argument("start_time"), time_argument("end_time")
    return database().scans(project, freqmode, failed, start, end, request.args.get("comment"))


# --- v4 -----------------------------------------------------------------------------------------------------------


def v4_base() -> str:
    return f"{root()}/v4/level2"


@v4.get(SCAN)
def v4_scan(project: str, freqmode: int, scanid: int) -> Json:
    document = found(project, freqmode, scanid)
    return {
        "Info": {
            "L2": document.l2,
            "L2i": document.l2i,
            "L2c": document.l2c,
            "Collocations": [],
            "URLS": urls(v4_base(), project, freqmode, scanid),
        }
    }


@v4.get("/projects/")
def v4_projects() -> Response:
    return v4_list("Projects", database().projects(published=None), project_entry(v4_base()))


@v4.get("/<project>/")
def v4_freqmodes(project: str) -> Response:
    return v4_list("FreqModes", database().freqmodes(project), freqmode_entry(v4_base(), project))


@v4.get("/<project>/products/")
def v4_products(project: str) -> Response:
    return v4_list("Products", database().products(project), lambda row: row.text)


@v4.get("/<project>/<freqmode:freqmode>/comments/")
def v4_comments(project: str, freqmode: int) -> Response:
    query = database().comments(project, freqmode)
    return v4_list("Comments", query, comment_entry(v4_base(), project, freqmode))


@v4.get("/<project>/<freqmode:freqmode>/<any(scans, failed):which>/")
def v4_scans(project: str, freqmode: int, which: str) -> Response:
    failed = which == "failed"
    query = scans_query(project, freqmode, failed)
    return v4_list("Scans", query, scan_entry(v4_base(), project, freqmode, failed))


# --- v5 -----------------------------------------------------------------------------------------------------------


def v5_base(published: bool) -> str:
    return f"{root()}/v5/level2" + ("" if published else "/development")


def checked_base(published: bool, project: str) -> str:
    """The base URL of a project; 404 if the project is not there or not in this state."""
    if database().published(project) is not published:
        state = "published" if published else "under development"
        abort(404, f"there is no project {project} {state}")
    return v5_base(published)


def v5_found(published: bool, project: str, freqmode: int, scanid: int, failed_too: bool = False) -> Document:
    checked_base(published, project)
    document = found(project, freqmode, scanid)
    if document.failed and not failed_too:
        abort(404, f"the processing of scan {scanid} failed, see its L2c")
    return document


def part(kind: str, data: Any) -> Json:
    return {"Type": kind, "Count": len(data) if isinstance(data, list) else None, "Data": data}


def info_part(published: bool, project: str, document: Document) -> Json:
    links = urls(v5_base(published), project, document.freqmode, document.scanid)
    return part("L2i", {**document.l2i, "URLS": links, "GenerationTime": f"{document.stored.isoformat()}Z"})


def ancillary_part(document: Document) -> Json:
    """For each product what follows from the scan's time and place: LST (h), SZA1D (degrees), Orbit (number)."""
    where = scans.place(scans.mjd(document.scanid))
    facts = {"LST": where.local_time, "SZA1D": where.sun_zenith, "Orbit": where.orbit}
    copied = ("Product", "ScanID", "FreqMode", "InvMode", "MJD", "Lat1D", "Lon1D")
    return part("L2anc", [{**{key: product[key] for key in copied}, **facts} for product in document.l2])


@v5.get(SCAN)
def v5_scan(published: bool, project: str, freqmode: int, scanid: int) -> Json:
    document = v5_found(published, project, freqmode, scanid)
    parts = {
        "L2i": info_part(published, project, document),
        "L2": part("L2", document.l2),
        "L2c": part("L2c", document.l2c),
        "L2anc": ancillary_part(document),
    }
    return {"Type": "mixed", "Count": None, "Data": parts}


@v5.get(f"{SCAN}L2/")
def v5_products_of_scan(published: bool, project: str, freqmode: int, scanid: int) -> Json:
    name = request.args.get("product")
    chosen = [
        product
        for product in v5_found(published, project, freqmode, scanid).l2
        if name is None or product["Product"] == name
    ]
    if name is not None and not chosen:
        abort(404, f"scan {scanid} has no product {name}")
    return part("L2", chosen)


@v5.get(f"{SCAN}L2i/")
def v5_info(published: bool, project: str, freqmode: int, scanid: int) -> Json:
    return info_part(published, project, v5_found(published, project, freqmode, scanid, failed_too=True))


@v5.get(f"{SCAN}L2c/")
def v5_comments_of_scan(published: bool, project: str, freqmode: int, scanid: int) -> Json:
    return part("L2c", v5_found(published, project, freqmode, scanid, failed_too=True).l2c)


@v5.get(f"{SCAN}L2anc/")
def v5_ancillary(published: bool, project: str, freqmode: int, scanid: int) -> Json:
    return ancillary_part(v5_found(published, project, freqmode, scanid))


@v5.get("/projects/")
def v5_projects(published: bool) -> Response:
    return v5_list("level2_project", database().projects(published), project_entry(v5_base(published)))


@v5.get("/<project>/")
def v5_freqmodes(published: bool, project: str) -> Response:
    base = checked_base(published, project)
    return v5_list("level2_project_freqmode", database().freqmodes(project), freqmode_entry(base, project))


@v5.get("/<project>/products/")
def v5_products(published: bool, project: str) -> Response:
    checked_base(published, project)
    return v5_list("level2_product_name", database().products(project), lambda row: row.text)


@v5.get("/<project>/<freqmode:freqmode>/comments/")
def v5_comments(published: bool, project: str, freqmode: int) -> Response:
    base = checked_base(published, project)
    query = database().comments(project, freqmode)
    return v5_list("level2_scan_comment", query, comment_entry(base, project, freqmode))


@v5.get("/<project>/<freqmode:freqmode>/<any(scans, failed):which>/")
def v5_scans(published: bool, project: str, freqmode: int, which: str) -> Response:
    base, failed = checked_base(published, project), which == "failed"
    kind = "level2_failed_scan" if failed else "level2_scan"
    return v5_list(kind, scans_query(project, freqmode, failed), scan_entry(base, project, freqmode, failed))
