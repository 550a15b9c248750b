"""Credentials go to the job service alone, and certificates are checked: with real servers and a CA of their own."""

from __future__ import annotations

import base64
import re
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from qsmr.dashboardserver import make_server
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApi
from qsmr.odinapi import OdinApi
from qsmr.status import Level2
from uworker.client import JobService, ServiceError

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "images/jobservice/jobservice/dashboard"


class Server:
    """Answers everything with ``answers``, by the path's last word, and notes path and credentials of each request."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.answers = {"token": '{"token": "the-token", "duration": 600}'}
        self.redirect = ""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                login = self.headers.get("Authorization", "").removeprefix("Basic ")
                server.seen.append((self.path, base64.b64decode(login).decode()))
                body = server.answers.get(self.path.rpartition("/")[2], "{}").encode()
                is_away = server.redirect and not self.path.endswith("/token")
                self.send_response(307 if is_away else 200)
                if is_away:
                    self.send_header("Location", server.redirect)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.root = f"{scheme}://127.0.0.1:{self.server.server_address[1]}/rest_api"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def certificates(directory: Path, address: str) -> tuple[Path, Path]:
    """A CA's certificate, and key and certificate of a server with this address that it has signed.

    They have all that RFC 5280 asks for: Python looks for it from 3.13 on.
    """
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Lab CA", "server")]
    now = datetime.now(UTC)
    unused = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    signs = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **unused)
    extensions: list[list[tuple[x509.ExtensionType, bool]]] = [
        [(x509.BasicConstraints(ca=True, path_length=None), True), (signs, True)],
        [(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), True)],
    ]
    of_ca = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key())
    made = []
    for key, name, own in zip(keys, names, extensions, strict=True):
        builder = x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        of_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        for extension, critical in [*own, (of_key, False), (of_ca, False)]:
            builder = builder.add_extension(extension, critical)
        made.append(builder.sign(keys[0], None).public_bytes(Encoding.PEM))
    authority, server = directory / "ca.pem", directory / "server.pem"
    authority.write_bytes(made[0])
    private = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.write_bytes(private + made[1])
    return authority, server


@pytest.fixture
def plain():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def elsewhere():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Nothing of this machine's; and a ~/.netrc with a password for the very host that is asked."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ana password from-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))


def worker(root: str) -> JobService:
    return JobService(root, "demo", "ana", "word", "UWorker_h", pause=lambda seconds: False)


ASKING = {
    "control node": lambda root: JobApi(root, "ana", "word").put_project("demo", deadline=None),
    "worker": lambda root: worker(root).fetch(),
    "odin": lambda root: OdinApi(root).last_weather_day(),
}
FAULTS = (QsmrError, ServiceError)


def test_netrc_is_nobodys_business(plain):
    """The passwords in it are for other programs: neither service gets one that it was not given."""
    plain.answers |= {"": '{"Date": "2020-01-01", "Projects": []}', "demo": "{}", "projects": "{}"}
    plain.answers["?limit=1"] = '{"Info": {"Count": 1}}'
    assert requests.get(f"{plain.root}/demo", timeout=5).ok  # what requests does by itself
    assert plain.seen == [("/rest_api/demo", "ana:from-netrc")]
    plain.seen.clear()
    JobApi(plain.root).project("demo")
    OdinApi(plain.root).last_weather_day()
    Level2(plain.root, "v4", "demo", "1").read()
    page = make_server(plain.root, PAGE, 0)
    threading.Thread(target=page.serve_forever, args=(0.05,), daemon=True).start()
    requests.get(f"http://127.0.0.1:{page.server_address[1]}/rest_api/v4/projects", auth=lambda r: r, timeout=5)
    page.shutdown()
    page.server_close()
    assert [credentials for _path, credentials in plain.seen] == [""] * 5


@pytest.mark.parametrize("body", ["<html>log in</html>", "[]", '{"Info": {"Count": "many"}}', '{"Info": 7}', "{}"])
def test_something_else_that_answers_for_the_odin_api_is_no_empty_list(plain, body):
    plain.answers["?limit=1"] = body
    found = Level2(plain.root, "v4", "demo", "1").read()
    assert (found["reachable"], found["scans"]) == (False, None)
    assert found["error"] == "status 200 without a list of scans: check ODIN_API_ROOT"


def test_nothing_asks_by_itself():
    """Requests and Ansible's uri take passwords from ~/.netrc unless they are told not to."""
    python = [path for folder in ("plugins", "library", "bin") for path in (REPOSITORY / folder).rglob("*.py")]
    alone = re.compile(r"(?<![.\w])requests\.(?:[Ss]ession|request|get|post|put|delete|head|options|patch)\(")
    assert [path.name for path in python if alone.search(path.read_text())] == ["websession.py"]
    tasks = [task for path in REPOSITORY.glob("roles/*/tasks/*.yml") for task in yaml.safe_load(path.read_text()) or []]
    asking = [task["ansible.builtin.uri"] for task in tasks if "ansible.builtin.uri" in task]
    assert asking
    assert all(options.get("use_netrc") is False for options in asking)


@pytest.mark.parametrize("who", ["control node", "worker"])
def test_redirect_carries_credentials_nowhere(plain, elsewhere, who):
    plain.redirect = f"{elsewhere.root}/v4/demo"
    with pytest.raises(FAULTS, match="redirected to http"):
        ASKING[who](plain.root)
    assert [credentials for _path, credentials in plain.seen] == ["ana:word", "the-token:"]
    assert elsewhere.seen == []


def test_urls_of_jobs_lead_the_workers_token_to_its_own_service_only(plain, elsewhere):
    """What a job service says of claim, status and output may name any host."""
    urls = {f"URL-{noun}": f"{elsewhere.root}/v4/demo/jobs/1/{noun}" for noun in ("claim", "status", "output")}
    urls |= {"URL-source": f"{elsewhere.root}/s", "URL-target": f"{elsewhere.root}/t", "URL-image": None}
    answer = '{{"Project": "demo", "Job": {{"JobID": "1", "Environment": {{}}, "URLS": {}}}}}'
    plain.answers["fetch"] = answer.format(str(urls).replace("'", '"').replace("None", "null"))
    service = worker(plain.root)
    job = service.fetch()
    assert service.claim(job)
    service.send_output(job, "text")
    assert {credentials for _path, credentials in plain.seen} == {"ana:word", "the-token:"}
    assert [path for path, _credentials in plain.seen][-1] == "/rest_api/v4/demo/jobs/1/output"
    assert elsewhere.seen == []


def test_proxies_of_the_environment_are_used(plain, monkeypatch):
    monkeypatch.setenv("http_proxy", plain.root.removesuffix("/rest_api"))
    plain.answers["demo"] = "{}"
    assert JobApi("http://jobs.example/rest_api").project("demo") == {}
    assert plain.seen == [("http://jobs.example/rest_api/v4/demo", "")]
    plain.seen.clear()
    plain.answers["?limit=1"] = '{"Info": {"Count": 3}}'
    assert Level2("http://odin.example/rest_api", "v4", "demo", "1").read()["scans"] == 3
    assert plain.seen[0] == ("http://odin.example/rest_api/v4/level2/demo/1/scans/?limit=1", "")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Servers with certificates of an unknown CA: one for its own address, and one for another; and the CA."""
    own, other = (tmp_path_factory.mktemp(name) for name in ("own", "other"))
    authority, certificate = certificates(own, "127.0.0.1")
    wrong_authority, wrong_certificate = certificates(other, "192.0.2.1")
    servers = Server(certificate), Server(wrong_certificate)
    yield *servers, authority, wrong_authority
    for server in servers:
        server.stop()


@pytest.mark.parametrize("who", ASKING)
def test_certificates_are_checked_and_an_own_authority_can_be_named(tls, monkeypatch, who):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    right, wrong, authority, wrong_authority = tls
    right.answers[""] = '{"Date": "2020-01-01"}'
    right.answers["fetch"] = '{"Project": "demo", "Job": {"JobID": "1", "URLS": {}}}'
    right.seen.clear()

    def fault(server: Server) -> str:
        with pytest.raises(FAULTS) as told:
            ASKING[who](server.root)
        return str(told.value)

    assert re.search("certificate does not verify|certificate verify failed|SSLError", fault(right))
    assert right.seen == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(wrong_authority))
    fault(right)
    fault(wrong)  # a certificate for another address
    assert wrong.seen == right.seen == []
    if who != "worker":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
        assert fault(right) == "/nowhere/ca.pem is not there, which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    try:
        ASKING[who](right.root)
    except FAULTS:
        assert who == "worker"  # that the job is none is another matter
    assert right.seen
