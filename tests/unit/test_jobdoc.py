"""Job documents equal the Odin API contract's examples (section 1)."""

import pytest
from qsmr.errors import QsmrError
from qsmr.jobdoc import JobMaker
from qsmr.settings import Settings

ROOT = "http://example.com/odin_api"
TARGET = "level2?d=9ZJ9cGgljTN7knxAAhW8077G4Lr2NuVapD_8L2PsWN-e0VV2auyQhU1v12CRVPT7"


def maker(odin_project, version="v4", key="adsfasreerfgtres", cipher="ecb", root=ROOT):
    return JobMaker(Settings(root, key, "", "", ""), odin_project, version, cipher)


def test_a_v4_job():
    assert maker("testproject")(1, 7123991206) == {
        "id": "1:7123991206",
        "type": "qsmr",
        "source_url": f"{ROOT}/v4/l1_log/1/7123991206/",
        "target_url": f"{ROOT}/v4/{TARGET}04N7R4GRpdwv6wev2Fti6A==",
    }


def test_a_v5_job():
    assert maker("odinproject", "v5")(1, 7123991206) == {
        "id": "1:7123991206",
        "type": "qsmr",
        "source_url": f"{ROOT}/v4/l1_log/1/7123991206/",
        "target_url": f"{ROOT}/v5/{TARGET}F4Fgu6vpYNE_wkfkGkN64A==",
        "view_result_url": f"{ROOT}/v5/level2/development/odinproject/1/7123991206",
    }


def test_documents_that_differ_have_digests_that_differ():
    makers = [
        maker("a"),
        maker("b"),
        maker("a", "v5"),
        maker("a", key="0123456789abcdef"),
        maker("a", root="http://x"),
        maker("a", key="rc/lY+OQYq6mvI6tCfr+tQ==", cipher="eax"),
    ]
    assert len({make.digest for make in makers}) == len(makers)
    assert maker("a").digest == maker("a").digest


def test_the_longest_root_that_fits_passes():
    token = maker("demo")(1, 7123991206)["target_url"].partition("d=")[2]
    longest = "http://h/" + "x" * (512 - len("http://h//v4/level2?d=") - len(token))
    maker("demo", root=longest).check_lengths(1, 7123991206)
    with pytest.raises(QsmrError, match="target_url of job 1:7123991206 has 513 characters"):
        maker("demo", root=longest + "x").check_lengths(1, 7123991206)


def test_a_version_that_is_none_is_refused():
    with pytest.raises(QsmrError, match="choose v4 or v5"):
        maker("demo", "v6")
