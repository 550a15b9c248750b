"""Level 2 in: the delivery of a document to the target that a token names, its deletion, and publishing a project."""

from __future__ import annotations

import hmac
import json
import math
from typing import Any, NoReturn

from flask import Blueprint, Response, abort, current_app, jsonify, make_response, request

from . import store, token
from .scans import BANDS
from .store import Document

api = Blueprint("level2_in", __name__)

PRODUCT_KEYS = [
    "AVK", "Altitude", "Apriori", "ErrorNoise", "ErrorTotal", "FreqMode", "InvMode", "Lat1D", "Latitude", "Lon1D",
    "Longitude", "MJD", "MeasResponse", "Pressure", "Product", "Quality", "ScanID", "Temperature", "VMR",
]  # fmt: skip
INFO_KEYS_2016 = [
    "BLineOffset", "ChannelsID", "FitSpectrum", "FreqMode", "FreqOffset", "InvMode", "LOFreq", "MinLmFactor",
    "PointOffset", "Residual", "STW", "ScanID",
]  # fmt: skip
INFO_KEYS_2020 = [*INFO_KEYS_2016, "SBpath", "Tsat"]


def refuse(reason: str) -> NoReturn:
    """400 as JSON, the form of everything that is wrong inside a document."""
    abort(make_response(jsonify(error=reason), 400))


def target() -> token.Target:
    """What the request's token names, else 400."""
    settings = current_app.extensions["settings"]
    try:
        return token.decode(request.args.get("d", ""), settings.cipher, settings.secret)
    except ValueError as error:
        abort(400, f"the parameter d is not a target: {error}")


def ids(named: token.Target) -> tuple[int, int]:
    """Frequency mode and scan id of a target, else 400."""
    if type(named.scanid) is not int or not 0 < named.scanid < 2**63:
        refuse(f"ScanID of the target is {named.scanid!r}, it must be a positive number")
    if type(named.freqmode) is not int or named.freqmode not in BANDS:
        refuse(f"FreqMode of the target is {named.freqmode!r}, there is no such frequency mode")
    return named.freqmode, named.scanid


def finite(text: str) -> float | None:
    """A number of the body; what is not finite (a bare NaN, 1e999) has no JSON form and is kept as null."""
    value = float(text)
    return value if math.isfinite(value) else None


def body() -> dict[str, Any]:
    """The JSON object that was posted, else 400."""
    if not request.is_json:
        abort(400, "the content type must be application/json")
    try:
        content = json.loads(request.get_data(), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        abort(400, "the body is not JSON")
    if not isinstance(content, dict):
        abort(400, "the body must be a JSON object")
    return content


def checked(data: Any, keys: list[str]) -> dict[str, Any]:
    """An object with its keys in the right case; raises ValueError for a missing or a further key."""
    if not isinstance(data, dict):
        raise ValueError("Data is not an object")
    left = dict(data)
    found = {}
    for key in keys:
        name = next((name for name in left if name.lower() == key.lower()), None)
        if name is None:
            raise ValueError(f"Data is missing expected key '{key}'")
        found[key] = left.pop(name)
    for name in left:
        raise ValueError(f"Data contains unexpected key '{name}'")
    return found


def document(content: dict[str, Any], named: token.Target, rules: str) -> Document:
    """Check a whole document by the rules of its year, else 400."""
    for key in ("L2", "L2I") if rules == "2016" else ("L2", "L2I", "L2C"):
        if key not in content:
            abort(400, f"the body has no {key}")
    l2, l2i, l2c = content["L2"], content["L2I"], content.get("L2C", "")
    if not isinstance(l2c, str):
        refuse("L2C: Data is not a text")
    failed = l2i == {} and rules != "2016"
    if isinstance(l2, dict) and rules != "2016":
        l2 = [l2]
    if not isinstance(l2, list):
        refuse("L2: Data is not a list of products")
    if failed:
        if l2:
            refuse("L2i: Data is empty, which means a failed scan, but there are products")
        freqmode, scanid = ids(named)
        l2i = {"FreqMode": freqmode, "ScanID": scanid}
    else:
        for number, product in enumerate(l2):
            try:
                l2[number] = checked(product, PRODUCT_KEYS)
            except ValueError as error:
                refuse(f"L2 species {number}: {error}")
        try:
            l2i = checked(l2i, INFO_KEYS_2016 if rules == "2016" else INFO_KEYS_2020)
        except ValueError as error:
            refuse(f"L2i: {error}")
        for key, expected in (("ScanID", named.scanid), ("FreqMode", named.freqmode)):
            if l2i[key] != expected:
                refuse(f"{key} missmatch ({expected!r} != {l2i[key]!r})")
        freqmode, scanid = ids(named)
    return Document(freqmode, scanid, l2i, l2, l2c.splitlines(), store.now(), failed)


@api.post("/<version>/level2")
def deliver(version: str) -> Response:
    rules = current_app.extensions["settings"].rules
    named = target()
    content = document(body(), named, rules)
    if not current_app.extensions["store"].put(named.project, content, replace=rules != "2016"):
        refuse("Level2 data for this scan id and freq mode already exist")
    return Response(status=201)


@api.delete("/<version>/level2")
def remove(version: str) -> Response:
    named = target()
    current_app.extensions["store"].delete(named.project, *ids(named))
    return Response(status=204)


@api.post("/v5/level2/development/<project>/publish")
def publish(project: str) -> Response:
    secret = current_app.extensions["settings"].secret
    password = request.authorization.password if request.authorization else None
    if not hmac.compare_digest((password or "").encode(), secret.encode()):
        return Response("Unauthorized\n", 401, {"WWW-Authenticate": 'Basic realm="odin"'})
    if not current_app.extensions["store"].publish(project):
        abort(404, f"there is no project {project} under development")
    return Response(status=201)
