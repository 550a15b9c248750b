"""How the control node speaks HTTP: by the environment's proxies and certificates, without its passwords."""

from __future__ import annotations

from pathlib import Path

from .errors import QsmrError
from .libraries import libraries

with libraries():
    import requests


def web_session(root: str) -> requests.Session:
    """A session for URLs below ``root``. Raises QsmrError if the environment names certificates that are not there.

    What the environment says of proxies (HTTPS_PROXY, NO_PROXY) and certificates (REQUESTS_CA_BUNDLE) is looked up once
    instead of for each request, which would take as long as the rest of it; ~/.netrc is not.
    """
    session = requests.Session()
    told = session.merge_environment_settings(root, {}, None, None, None)
    session.proxies, session.verify = told["proxies"], told["verify"]
    if isinstance(session.verify, str) and not Path(session.verify).exists():
        raise QsmrError(f"{session.verify} is not there, which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names")
    session.trust_env = False
    return session
