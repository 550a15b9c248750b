"""Odin API contract, sections 2 to 4: the stand-in takes level 2 and gives it back, by the rules of both eras."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from contract import odin_service
from contract.odin_service import OdinService, document
from odin import create_app
from odin.config import ConfigError, Settings, load_settings

odin = odin_service.odin

SCAN = 7123991206
ECB_SECRET = "adsfasreerfgtres"
EAX_SECRET = "rc/lY+OQYq6mvI6tCfr+tQ=="
TOKENS = {
    "ecb": [
        (
            "9ZJ9cGgljTN7knxAAhW8077G4Lr2NuVapD_8L2PsWN-e0VV2auyQhU1v12CRVPT704N7R4GRpdwv6wev2Fti6A==",
            ("testproject", 1, SCAN),
        ),
        (
            "wkPCh_uayT14xJwYiQxbocTBWWnyazk7hsrHyFvVKkOe0VV2auyQhU1v12CRVPT7WNfqLTg0Igby04z0kUKUZA==",
            ("myproject", 1, 7014791071),
        ),
        (
            "6M0cuR3hsLGMvU-GD0lZ0aivd_iJGKqyOD7hcpt48tzTzkjF8x7gSqFs3tK1qou-HqC0YCBxgh6IL9ikRr1diQ==",
            ("testproject", 1, SCAN),
        ),
    ],
    "eax": [
        (
            "Rjjza_kbKaXqcg3zFpr3wp1Ijal-u8fLFAJu0zzqKicozKIainKKCg4VhKztFCbNnTQx70mF59gBv7V1OzGg1TNzPl_LsjPjq6wk"
            "F5Mv7BOAa0tBRdZYl83gMB7tH_o=",
            ("testproject", 1, SCAN),
        ),
        (
            "MgDFdAokiatPmHae62CRpnqfr-4QXoIWL3KlDcf5zLBqyXMidJnNsudzcVmYqO8mfYXfGG2TIP-zmf7Kk0UiN0Y-ANjtMP3HI7YS"
            "VbNmUBGOe-mxN6Tjq68CH_cC",
            ("myproject", 1, 7014791071),
        ),
    ],
}


def post(url: str, content: Any) -> requests.Response:
    return requests.post(url, json=content, timeout=10)


def get(url: str, **options: Any) -> requests.Response:
    return requests.get(url, timeout=10, **options)


@pytest.fixture(scope="module")
def odin_2016(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OdinService]:
    service = OdinService(tmp_path_factory.mktemp("odin-2016"), ODIN_RULES="2016", SECRET_KEY=ECB_SECRET)
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def odin_eax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OdinService]:
    directory = tmp_path_factory.mktemp("odin-eax")
    (directory / "secret").write_text(f"{EAX_SECRET}\n")
    service = OdinService(directory, ODIN_CIPHER="eax", SECRET_KEY_FILE=str(directory / "secret"), SECRET_KEY="")
    service.start()
    yield service
    service.stop()


# --- section 2: the token -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cipher", "token", "named"), [(cipher, *vector) for cipher, vectors in TOKENS.items() for vector in vectors]
)
def test_the_contracts_tokens_name_their_scan(
    odin_2016: OdinService, odin_eax: OdinService, cipher: str, token: str, named: tuple[str, int, int]
) -> None:
    service = odin_2016 if cipher == "ecb" else odin_eax
    project, freqmode, scanid = named
    content = document(freqmode, scanid)
    if service is odin_2016:
        content["L2I"] = {key: value for key, value in content["L2I"].items() if key not in ("SBpath", "Tsat")}
    url = f"{service.root}/v4/level2?d={token}"
    assert requests.delete(url, timeout=10).status_code == 204
    assert post(url, content).status_code == 201
    stored = get(f"{service.root}/v4/level2/{project}/{freqmode}/{scanid}/").json()["Info"]
    assert stored["L2i"]["ScanID"] == scanid


def wrong_tokens(cipher: str) -> list[str]:
    token = TOKENS[cipher][0][0]
    raw = base64.urlsafe_b64decode(token)
    return [
        "",
        "nonsense",
        token.rstrip("="),
        token.replace("_", "/").replace("-", "%2B"),
        TOKENS["eax" if cipher == "ecb" else "ecb"][0][0],
        base64.urlsafe_b64encode(raw[:40] + bytes([raw[40] ^ 1]) + raw[41:]).decode(),
        base64.urlsafe_b64encode(raw[:-16]).decode(),
    ]


@pytest.mark.parametrize(("cipher", "number"), [(cipher, n) for cipher in ("ecb", "eax") for n in range(7)])
def test_a_wrong_token_is_refused(odin_2016: OdinService, odin_eax: OdinService, cipher: str, number: int) -> None:
    service = odin_2016 if cipher == "ecb" else odin_eax
    url = f"{service.root}/v4/level2?d={wrong_tokens(cipher)[number]}"
    for answer in (post(url, document(1, SCAN)), requests.delete(url, timeout=10)):
        assert answer.status_code == 400
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "not a target" in answer.text
    assert requests.delete(f"{service.root}/v4/level2", timeout=10).status_code == 400


@pytest.mark.parametrize(
    ("project", "freqmode", "scanid"),
    [("p", 1, 2**63), ("p", 1, -1), ("p", 999, SCAN), ("p", "1", SCAN), ("a/b", 1, SCAN), ("projects", 1, SCAN)],
)
def test_a_target_that_could_not_be_read_back_is_refused(
    odin: OdinService, project: str, freqmode: Any, scanid: int
) -> None:
    url = odin.target(project, freqmode, scanid)
    assert post(url, document(freqmode, scanid)).status_code == 400
    assert requests.delete(url, timeout=10).status_code == 400


# --- section 3: in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v4", "v5", "v9"])
def test_a_document_is_taken_under_any_version(odin: OdinService, version: str) -> None:
    answer = post(odin.target("versions", 1, SCAN, version), document(1, SCAN))
    assert (answer.status_code, answer.content) == (201, b"")


def test_credentials_are_ignored(odin: OdinService) -> None:
    url = odin.target("credentials", 1, SCAN)
    assert requests.post(url, json=document(1, SCAN), auth=("notused", "notused"), timeout=10).status_code == 201


def test_a_scan_is_replaced_in_2020(odin: OdinService) -> None:
    url = odin.target("again", 1, SCAN)
    assert post(url, document(1, SCAN, "old", "older") | {"L2C": "old"}).status_code == 201
    assert post(url, document(1, SCAN, "new") | {"L2C": "new"}).status_code == 201
    base = f"{odin.root}/v4/level2/again"
    assert [p["Product"] for p in get(f"{base}/1/{SCAN}/").json()["Info"]["L2"]] == ["new"]
    assert get(f"{base}/products/").json()["Info"]["Products"] == ["new"]
    assert [c["Comment"] for c in get(f"{base}/1/comments/").json()["Info"]["Comments"]] == ["new"]


def document_2016(freqmode: int, scanid: int) -> dict[str, Any]:
    content = document(freqmode, scanid)
    content["L2I"] = {key: value for key, value in content["L2I"].items() if key not in ("SBpath", "Tsat")}
    return content


def test_a_scan_is_taken_once_in_2016(odin_2016: OdinService) -> None:
    url = odin_2016.target("once", 1, SCAN)
    assert post(url, document_2016(1, SCAN)).status_code == 201
    again = post(url, document_2016(1, SCAN))
    assert (again.status_code, again.json()) == (
        400,
        {"error": "Level2 data for this scan id and freq mode already exist"},
    )
    assert requests.delete(url, timeout=10).status_code == 204
    assert post(url, document_2016(1, SCAN)).status_code == 201


def test_2016_needs_no_comments_and_knows_no_sbpath(odin_2016: OdinService) -> None:
    content = document_2016(1, SCAN)
    del content["L2C"]
    assert post(odin_2016.target("keys", 1, SCAN), content).status_code == 201
    refused = post(odin_2016.target("keys", 1, SCAN), document(1, SCAN))
    assert (refused.status_code, refused.json()["error"]) == (400, "L2i: Data contains unexpected key 'SBpath'")


@pytest.mark.parametrize(("l2", "l2i"), [({}, None), (None, {})])
def test_2016_refuses_a_single_product_and_a_failed_scan(odin_2016: OdinService, l2: Any, l2i: Any) -> None:
    content = document_2016(1, SCAN)
    content |= {"L2": content["L2"][0]} if l2 is not None else {"L2": [], "L2I": l2i}
    answer = post(odin_2016.target("single", 1, SCAN), content)
    assert (answer.status_code, "error" in answer.json()) == (400, True)


def test_a_single_product_is_wrapped_in_2020(odin: OdinService) -> None:
    content = document(1, SCAN)
    assert post(odin.target("single", 1, SCAN), content | {"L2": content["L2"][0]}).status_code == 201
    stored = get(f"{odin.root}/v4/level2/single/1/{SCAN}/").json()["Info"]
    assert stored["L2"] == content["L2"]


@pytest.mark.parametrize(
    "request_parts",
    [
        {"data": "{", "headers": {"Content-Type": "application/json"}},
        {"data": "[" * 100_000, "headers": {"Content-Type": "application/json"}},
        {"data": "{}", "headers": {"Content-Type": "text/plain"}},
        {"json": []},
        {"json": {"L2I": {}, "L2C": ""}},
        {"json": {"L2": [], "L2C": ""}},
        {"json": {"L2": [], "L2I": {}}},
    ],
)
def test_what_is_no_document_is_refused_as_html(odin: OdinService, request_parts: dict[str, Any]) -> None:
    answer = requests.post(odin.target("html", 1, SCAN), timeout=10, **request_parts)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["L2"][1].pop("VMR"), "L2 species 1: Data is missing expected key 'VMR'"),
        (lambda d: d["L2"][0].update(More=1), "L2 species 0: Data contains unexpected key 'More'"),
        (lambda d: d["L2"][0].update(vmr=1), "L2 species 0: Data contains unexpected key 'vmr'"),
        (lambda d: d["L2"].append(1), "L2 species 2: Data is not an object"),
        (lambda d: d["L2I"].pop("STW"), "L2i: Data is missing expected key 'STW'"),
        (lambda d: d["L2I"].update(More=1), "L2i: Data contains unexpected key 'More'"),
        (lambda d: d["L2I"].update(ScanID=7), f"ScanID missmatch ({SCAN} != 7)"),
        (lambda d: d["L2I"].update(FreqMode=2), "FreqMode missmatch (1 != 2)"),
        (lambda d: d.update(L2="text"), "L2: Data is not a list of products"),
        (lambda d: d.update(L2C=["text"]), "L2C: Data is not a text"),
        (lambda d: d.update(L2I={}), "L2i: Data is empty, which means a failed scan, but there are products"),
        (lambda d: d.update(L2I=[]), "L2i: Data is not an object"),
    ],
)
def test_a_fault_inside_a_document_is_named_and_nothing_stored(odin: OdinService, change: Any, reason: str) -> None:
    content = document(1, SCAN, "a", "b")
    change(content)
    answer = post(odin.target("faults", 1, SCAN), content)
    assert (answer.status_code, answer.json()) == (400, {"error": reason})
    assert get(f"{odin.root}/v4/level2/faults/1/{SCAN}/").status_code == 404


def test_a_scan_id_as_text_in_the_token_is_a_mismatch(odin: OdinService) -> None:
    answer = post(odin.target("text", 1, f"{SCAN}"), document(1, SCAN))
    assert (answer.status_code, answer.json()) == (400, {"error": f"ScanID missmatch ('{SCAN}' != {SCAN})"})


def test_keys_count_whatever_their_case_and_further_parts_are_ignored(odin: OdinService) -> None:
    content = document(1, SCAN)
    content["L2I"] = {key.lower(): value for key, value in content["L2I"].items()}
    assert post(odin.target("case", 1, SCAN), content | {"Extra": 1}).status_code == 201
    stored = get(f"{odin.root}/v4/level2/case/1/{SCAN}/").json()["Info"]
    assert stored["L2i"] == document(1, SCAN)["L2I"]


def test_numbers_that_json_does_not_have_become_null(odin: OdinService) -> None:
    content = document(1, SCAN)
    text = requests.Request("POST", "http://x", json=content).prepare().body.decode()
    assert '"Quality": null' in text
    text = text.replace('"Quality": null', '"Quality": NaN').replace("[1.0, 2.0]", "[1e999, -Infinity]")
    answer = requests.post(
        odin.target("nan", 1, SCAN), data=text, headers={"Content-Type": "application/json"}, timeout=10
    )
    assert answer.status_code == 201
    product = get(f"{odin.root}/v4/level2/nan/1/{SCAN}/").json()["Info"]["L2"][0]
    assert (product["Quality"], product["VMR"]) == (None, [None, None])


def test_texts_that_a_database_refuses_are_still_stored(odin: OdinService) -> None:
    content = document(1, SCAN, "O3 \ud800 \0") | {"L2C": "one \udfff\ntwo \0"}
    assert post(odin.target("texts", 1, SCAN), content).status_code == 201
    assert get(f"{odin.root}/v4/level2/texts/1/{SCAN}/").status_code == 200


def test_deletion_is_204_whether_or_not_there_was_anything(odin: OdinService) -> None:
    url = odin.target("deletion", 1, SCAN)
    assert post(url, document(1, SCAN)).status_code == 201
    for _ in range(2):
        assert requests.delete(url, timeout=10).status_code == 204
        assert get(f"{odin.root}/v4/level2/deletion/1/{SCAN}/").status_code == 404
    assert get(f"{odin.root}/v4/level2/deletion/products/").json()["Info"]["Count"] == 0


def test_a_reader_sees_whole_documents_only(odin: OdinService) -> None:
    """Four writers replace the same scan; its products and comments always belong together."""
    url = odin.target("atomic", 1, SCAN)
    statuses: list[int] = []

    def write(name: str) -> None:
        for _ in range(5):
            content = document(1, SCAN, *[f"{name}{n}" for n in range(3)]) | {"L2C": name}
            statuses.append(post(url, content).status_code)

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        answer = get(f"{odin.root}/v4/level2/atomic/1/{SCAN}/")
        if answer.status_code == 200:
            info = answer.json()["Info"]
            assert [p["Product"] for p in info["L2"]] == [f"{info['L2c'][0]}{n}" for n in range(3)]
    assert statuses == [201] * 20
    assert get(f"{odin.root}/v4/level2/atomic/products/").json()["Info"]["Count"] == 3


def test_publishing_moves_a_project(odin: OdinService) -> None:
    assert post(odin.target("paper", 1, SCAN), document(1, SCAN)).status_code == 201
    url = f"{odin.root}/v5/level2/development/paper/publish"
    assert requests.post(url, timeout=10).status_code == 401
    assert requests.post(url, auth=("any", "wrong"), timeout=10).status_code == 401
    unknown = url.replace("paper", "unknown")
    assert requests.post(unknown, auth=("any", odin.secret), timeout=10).status_code == 404
    assert requests.post(url, auth=("any", odin.secret), timeout=10).status_code == 201
    assert requests.post(url, auth=("any", odin.secret), timeout=10).status_code == 404
    for path in (f"paper/1/{SCAN}/", "paper/", "paper/1/scans/", "paper/1/comments/", "paper/products/"):
        assert get(f"{odin.root}/v5/level2/{path}").status_code == 200
        assert get(f"{odin.root}/v5/level2/development/{path}").status_code == 404
    assert get(f"{odin.root}/v4/level2/paper/1/{SCAN}/").status_code == 200
    names = [entry["Name"] for entry in get(f"{odin.root}/v5/level2/projects/").json()["Data"]]
    assert "paper" in names
    names = [entry["Name"] for entry in get(f"{odin.root}/v5/level2/development/projects/").json()["Data"]]
    assert "paper" not in names


# --- section 4: out -----------------------------------------------------------------------------------------------


def test_a_document_comes_back_on_v4(odin: OdinService) -> None:
    content = document(1, SCAN)
    post(odin.target("out", 1, SCAN), content)
    answer = get(f"{odin.root}/v4/level2/out/1/{SCAN}", allow_redirects=False)
    assert answer.status_code == 308
    answer = get(answer.headers["Location"])
    assert answer.json() == {
        "Info": {
            "L2": content["L2"],
            "L2i": content["L2I"],
            "L2c": content["L2C"].split("\n"),
            "Collocations": [],
            "URLS": {
                "URL-log": f"{odin.root}/v4/l1_log/1/{SCAN}/",
                "URL-level2": f"{odin.root}/v4/level2/out/1/{SCAN}/",
                "URL-spectra": f"{odin.root}/v4/scan/AC2/1/{SCAN}/",
            },
        }
    }


def test_a_document_comes_back_on_v5_whole_and_in_parts(odin: OdinService) -> None:
    content = document(1, SCAN, "O3 / 501 GHz / 20 to 50 km", "ClO / 501 GHz / 20 to 50 km")
    post(odin.target("parts", 1, SCAN), content)
    base = f"{odin.root}/v5/level2/development/parts/1/{SCAN}"
    whole = get(base).json()
    assert (whole["Type"], whole["Count"]) == ("mixed", None)
    data = whole["Data"]
    assert data["L2"] == {"Type": "L2", "Count": 2, "Data": content["L2"]}
    assert data["L2c"]["Data"] == content["L2C"].split("\n")
    info = dict(data["L2i"]["Data"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info.pop("GenerationTime"))
    assert info.pop("URLS")["URL-level2"] == f"{base}/"
    assert (info, data["L2i"]["Type"], data["L2i"]["Count"]) == (content["L2I"], "L2i", None)
    assert [entry["Product"] for entry in data["L2anc"]["Data"]] == [p["Product"] for p in content["L2"]]
    for name in ("L2", "L2i", "L2c", "L2anc"):
        assert get(f"{base}/{name}/").json() == data[name]
    chosen = get(f"{base}/L2/", params={"product": "ClO / 501 GHz / 20 to 50 km"}).json()
    assert chosen == {"Type": "L2", "Count": 1, "Data": content["L2"][1:]}
    assert get(f"{base}/L2/", params={"product": "H2O"}).status_code == 404


def test_a_failed_scan_is_told_differently_on_v4_and_v5(odin: OdinService) -> None:
    failed = {"L2": [], "L2I": {}, "L2C": "Snapshot: x\nError: too few spectra"}
    assert post(odin.target("failing", 13, 3197688958), failed).status_code == 201
    assert post(odin.target("failing", 13, 3197688959), document(13, 3197688959)).status_code == 201
    item = "failing/13/3197688958"
    on_v4 = get(f"{odin.root}/v4/level2/{item}").json()["Info"]
    assert (on_v4["L2"], on_v4["L2i"]) == ([], {"ScanID": 3197688958, "FreqMode": 13})
    on_v5 = f"{odin.root}/v5/level2/development/{item}"
    statuses = {part: get(f"{on_v5}/{part}").status_code for part in ("", "L2/", "L2anc/", "L2i/", "L2c/")}
    assert statuses == {"": 404, "L2/": 404, "L2anc/": 404, "L2i/": 200, "L2c/": 200}
    for base, key in ((f"{odin.root}/v4/level2", "Info"), (f"{odin.root}/v5/level2/development", None)):
        lists = {which: get(f"{base}/failing/13/{which}/").json() for which in ("failed", "scans")}
        failed_scans, good_scans = ((a[key]["Scans"] if key else a["Data"]) for a in lists.values())
        assert [(s["ScanID"], s["Error"]) for s in failed_scans] == [(3197688958, "Error: too few spectra")]
        assert [s["ScanID"] for s in good_scans] == [3197688959]


@pytest.mark.parametrize(
    "path",
    [
        "v4/level2/nobody/1/7/",
        f"v4/level2/known/999/{SCAN}/",
        "v4/level2/known/1/7/",
        f"v5/level2/known/1/{SCAN}/",
        "v5/level2/development/known/1/7/",
        "v5/level2/development/known/1/7/L2c/",
        "v5/level2/development/nobody/",
        "v5/level2/development/nobody/1/scans/",
        "v5/level2/development/nobody/1/failed/",
        "v5/level2/development/nobody/1/comments/",
        "v5/level2/development/nobody/products/",
    ],
)
def test_level2_that_is_not_there_is_404(odin: OdinService, path: str) -> None:
    post(odin.target("known", 1, SCAN), document(1, SCAN))
    assert get(f"{odin.root}/{path}").status_code == 404


@pytest.fixture(scope="module")
def listed(odin: OdinService) -> OdinService:
    """Five scans a day apart in project `listed`, the first on 2015-04-01."""
    for n in range(5):
        scanid = SCAN + n * 1382542
        content = document(1, scanid) | {"L2C": f"common\nmine {n}"}
        assert post(odin.target("listed", 1, scanid), content).status_code == 201
    return odin


def test_lists_lead_from_the_project_to_the_scan(listed: OdinService) -> None:
    for base in (f"{listed.root}/v4/level2", f"{listed.root}/v5/level2/development"):

        def entries(url: str) -> list[dict[str, Any]]:
            answer = get(url).json()
            if "Data" in answer:
                return answer["Data"]
            return next(value for value in answer["Info"].values() if isinstance(value, list))

        project = next(entry for entry in entries(f"{base}/projects/") if entry["Name"] == "listed")
        (mode,) = entries(project["URLS"]["URL-project"])
        assert mode["FreqMode"] == 1
        scans = entries(mode["URLS"]["URL-scans"])
        assert [scan["Date"] for scan in scans] == [f"2015-04-0{n}" for n in range(1, 6)]
        assert get(scans[0]["URLS"]["URL-level2"]).status_code == 200
        comments = entries(mode["URLS"]["URL-comments"])
        assert [entry["Comment"] for entry in comments] == ["common", *(f"mine {n}" for n in range(5))]
        assert [scan["ScanID"] for scan in entries(comments[3]["URLS"]["URL-scans"])] == [scans[2]["ScanID"]]
        assert entries(f"{base}/listed/products/") == ["O3 / 501 GHz / 20 to 50 km"]


def test_lists_come_in_pages(listed: OdinService) -> None:
    url = f"{listed.root}/v5/level2/development/listed/1/scans/?limit=2"
    seen = []
    while url:
        answer = get(url)
        assert answer.json()["Count"] == 5
        assert re.findall(r'rel="(\w+)"', answer.headers["Link"])[:: len(answer.links) - 1] == ["first", "last"]
        seen += [entry["Date"] for entry in answer.json()["Data"]]
        url = answer.links.get("next", {}).get("url")
    assert seen == [f"2015-04-0{n}" for n in range(1, 6)]
    last = answer.links["last"]["url"]
    assert get(last).json()["Data"] == answer.json()["Data"]
    assert get(answer.links["prev"]["url"]).json()["Data"][0]["Date"] == "2015-04-03"


def test_lists_can_be_narrowed_by_scan_time(listed: OdinService) -> None:
    url = f"{listed.root}/v4/level2/listed/1/scans/"
    period = {"start_time": "2015-04-02", "end_time": "2015-04-04"}
    scans = get(url, params=period).json()["Info"]["Scans"]
    assert [scan["Date"] for scan in scans] == ["2015-04-02", "2015-04-03"]


@pytest.mark.parametrize("query", ["limit=x", "limit=0", "offset=-1", f"offset={10**30}", "start_time=soon"])
def test_a_wrong_parameter_of_a_list_is_400(listed: OdinService, query: str) -> None:
    assert get(f"{listed.root}/v4/level2/listed/1/scans/?{query}").status_code == 400


# --- operation ----------------------------------------------------------------------------------------------------


def test_level2_outlives_a_restart(odin: OdinService) -> None:
    post(odin.target("restart", 1, SCAN), document(1, SCAN))
    url = f"{odin.root}/v5/level2/development/restart/1/{SCAN}/"
    before = get(url).json()
    odin.restart()
    assert get(url).json() == before


def test_each_request_is_one_line_without_secrets(odin: OdinService) -> None:
    url = odin.target("logged", 1, SCAN)
    post(url, document(1, SCAN))
    requests.post(f"{odin.root}/v5/level2/development/logged/publish", auth=("any", odin.secret), timeout=10)
    odin.stop()  # writes what is left
    log = odin.log
    odin.start()
    assert log.count("POST /rest_api/v5/level2/development/logged/publish") == 1
    token = url.split("d=")[1]
    basic = base64.b64encode(f"any:{odin.secret}".encode()).decode()
    assert not [secret for secret in (token, token[:30], odin.secret, basic) if secret in log]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must be 16, 24 or 32 ASCII characters"),
        ({"SECRET_KEY": ECB_SECRET, "ODIN_CIPHER": "eax"}, "SECRET_KEY must be 16, 24 or 32 bytes in base64"),
        ({"SECRET_KEY": ECB_SECRET, "ODIN_RULES": "2018"}, "ODIN_RULES is '2018'"),
        ({"SECRET_KEY": ECB_SECRET, "ODIN_CIPHER": "rot"}, "ODIN_CIPHER is 'rot'"),
        ({"SECRET_KEY": ECB_SECRET, "SECRET_KEY_FILE": "/x"}, "both SECRET_KEY and SECRET_KEY_FILE are set"),
        ({"SECRET_KEY_FILE": "/nowhere/x"}, "SECRET_KEY_FILE: cannot read /nowhere/x"),
    ],
)
def test_a_wrong_setting_is_told(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        load_settings(environment)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////nowhere/odin.sqlite", "unable to open database file"),
        ("rubbish", "Could not parse SQLAlchemy URL"),
        ("mysql://host/odin", "the URL must be of sqlite or postgresql"),
        ("postgresql://odin:word@127.0.0.1:1/odin", "[Cc]onnection refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_told(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^DATABASE_URL: the database cannot be used: .*{reason}"):
        create_app(Settings(secret=ECB_SECRET, database_url=url))


def test_a_wrong_setting_ends_the_start_without_a_traceback(tmp_path: Path) -> None:
    service = OdinService(tmp_path, SECRET_KEY="short")
    with pytest.raises(RuntimeError):
        service.start()
    assert "Error: SECRET_KEY must be" in service.log
    assert "Traceback" not in service.log
