"""Can the services be used from here? Asked on a host, and as a program of its own in a container, as a worker would.

The container runs the text of this file (``python3 -c``), so it needs nothing but the standard library of Python 3.9.
Nothing secret is in what it prints.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import socket
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Seconds for each answer of a service.
TIMEOUT = 10.0
# What the line begins with that holds the answers: Compose prints, too.
MARK = "qsmr-services:"
JOB_SERVICE, ODIN_API = "job service", "Odin API"
# Why there was no answer.
NO_NAME, NO_TRUST, NO_TIME, NO_WAY = "name", "certificate", "time", "way"


def answers(environ: Mapping[str, str], odin_api_root: str) -> dict[str, dict[str, Any]]:
    """What each service answers to a worker with this environment, by service; one without a root is left out.

    Each is ``{"root", "fits", "status", "said", "why", "proxy", "direct"}``: whether it is what it has to be; status 0
    with the reason if there was no answer; the proxy that was used; and whether it fits without that.
    """
    found = {}
    root = environ.get("UWORKER_JOB_API_ROOT", "").rstrip("/")
    if root:
        account = ":".join(environ.get("UWORKER_JOB_API_" + name, "") for name in ("USERNAME", "PASSWORD"))
        headers = {"Authorization": "Basic " + base64.b64encode(account.encode()).decode()}
        found[JOB_SERVICE] = _answer(root, "/token", headers, environ, _is_token)
    if odin_api_root:
        # Any answer of the server itself will do: what there is to be read differs from one era to the other.
        found[ODIN_API] = _answer(odin_api_root, "/", {}, environ, lambda status, _text: 0 < status < 500)
    return found


def _answer(
    root: str, path: str, headers: dict[str, str], environ: Mapping[str, str], fits: Callable[[int, str], bool]
) -> dict[str, Any]:
    proxy = proxy_for(root, environ)
    status, text, why = _get(root + path, headers, proxy)
    found: dict[str, Any] = {"root": root, "fits": fits(status, text), "status": status, "why": why}
    found.update(said="" if status else text, proxy=_shown(proxy), direct=False)
    # A proxy has answers of its own, which may look like the service's.
    if proxy and (status == 0 or status >= 400):
        direct, text, _why = _get(root + path, headers, "")
        found["direct"] = fits(direct, text) and direct != status
        found["fits"] = found["fits"] and not found["direct"]
    return found


def _is_token(status: int, text: str) -> bool:
    try:
        return status == 200 and bool(json.loads(text)["token"])
    except (ValueError, LookupError, TypeError):
        return False


def proxy_for(url: str, environ: Mapping[str, str]) -> str:
    """The proxy that ``environ`` has for a URL, as requests reads it; empty if there is none."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    spared = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    for entry in spared.replace(" ", "").lower().split(","):
        name = entry.lstrip(".")
        if name == "*" or (name and (name in (host, f"{host}:{parts.port}") or host.endswith("." + name))):
            return ""
        if "/" in name and _is_in_network(host, name):
            return ""
    variable = parts.scheme + "_proxy"
    names = (variable, variable.upper(), "all_proxy", "ALL_PROXY")
    return next((environ[name] for name in names if environ.get(name)), "")


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _shown(proxy: str) -> str:
    """A proxy without the account that may be in it."""
    return proxy.rpartition("@")[2] if "@" in proxy else proxy


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect could carry the account to another host."""


def _get(url: str, headers: dict[str, str], proxy: str) -> tuple[int, str, str]:
    """Status, body and "" of a GET; or 0, the words for what was in the way, and one of the reasons above."""
    try:
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_trusted()), _NoRedirect()]
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  settings are checked to be http(s)
        if proxy:
            parts = urlsplit(proxy if "://" in proxy else "http://" + proxy)
            if parts.username:
                account = unquote(parts.username) + ":" + unquote(parts.password or "")
                words = "Basic " + base64.b64encode(account.encode()).decode()
                request.add_header("Proxy-Authorization", words)
            request.set_proxy(parts.netloc.rpartition("@")[2], urlsplit(url).scheme)
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.read(65536).decode(errors="replace"), ""
    except urllib.error.HTTPError as error:
        return error.code, "", ""
    except urllib.error.URLError as error:
        reason = error.reason
        return 0, str(getattr(reason, "strerror", None) or reason), _why(reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__, _why(error)


def _why(error: object) -> str:
    if isinstance(error, socket.gaierror):
        return NO_NAME
    if isinstance(error, ssl.SSLError):
        return NO_TRUST
    return NO_TIME if isinstance(error, socket.timeout) else NO_WAY


def _trusted() -> ssl.SSLContext:
    """The certificates that a worker trusts: those of its HTTP library, where that is here."""
    path = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
    if not path:
        try:
            from requests.utils import DEFAULT_CA_BUNDLE_PATH
        except ImportError:
            return ssl.create_default_context()
        path = DEFAULT_CA_BUNDLE_PATH
    is_directory = Path(path).is_dir()
    return ssl.create_default_context(cafile=None if is_directory else path, capath=path if is_directory else None)


def largest_packet() -> int:
    """The MTU of the network that leads away from here; 0 if that is not told."""
    try:
        routes = Path("/proc/net/route").read_text(encoding="ascii").splitlines()
        interface = next(line.split()[0] for line in routes if line.split()[1] == "00000000")
        return int(Path("/sys/class/net", interface, "mtu").read_text(encoding="ascii"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def nameservers() -> list[str]:
    """The name servers that are asked here."""
    try:
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.split()[1] for line in lines if line.startswith("nameserver ")]
    except (OSError, IndexError):
        return []


def main() -> None:
    thread = threading.Thread(target=lambda: None)  # a worker has some, and old engines refuse them to new images
    thread.start()
    found = {"services": answers(os.environ, sys.argv[1]), "mtu": largest_packet(), "nameservers": nameservers()}
    print(MARK + json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
