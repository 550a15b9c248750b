"""The config file: data, never code; every fault at once; no secret on the screen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qsmr.errors import QsmrError
from qsmr.settings import KEYS, load_settings, parse_settings, readable_by_others

GOOD = {
    "ODIN_API_ROOT": "http://odin.example.com/rest_api",
    "ODIN_SECRET": "adsfasreerfgtres",
    "JOB_API_ROOT": "https://jobs.example.com:5000/rest_api",
    "JOB_API_USERNAME": "ana",
    "JOB_API_PASSWORD": "p w$(x)#'",
}


@pytest.fixture
def config(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "demo.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def lines(**changes):
    return "".join(f"{key}={value}\n" for key, value in (GOOD | changes).items() if value is not None)


def faults_of(path, overrides=None):
    with pytest.raises(QsmrError) as fault:
        load_settings(path, overrides)
    return str(fault.value).splitlines()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("  K = v  ", "v"),
        ("K=a=b", "a=b"),
        ('K="v w"', "v w"),
        ("K='v'", "v"),
        ("K='v\"", "'v\""),
        ('K="', '"'),
        ("K=v # c", "v # c"),
        ("K=$(touch x) $y", "$(touch x) $y"),
        ("K=v\r", "v"),
        ("K=first\nK=last", "last"),
        ("\ufeffK=v", "v"),
        ("# K=no\n\nnothing\nK=v", "v"),
    ],
)
def test_a_line_is_read_as_data(line, value):
    assert parse_settings(line)["K"] == value


@given(st.text())
def test_any_text_can_be_parsed(text):
    assert all(key == key.strip() for key in parse_settings(text))


def test_all_five_settings_are_read(config):
    settings = load_settings(config(lines(OTHER="ignored")))
    assert {key: getattr(settings, key.lower()) for key in KEYS} == GOOD


def test_secrets_are_not_in_the_repr(config):
    shown = repr(load_settings(config(lines())))
    assert GOOD["ODIN_SECRET"] not in shown
    assert GOOD["JOB_API_PASSWORD"] not in shown


def test_all_faults_are_named_at_once_in_the_former_words(config):
    path = config(lines(ODIN_SECRET="", JOB_API_USERNAME=None, ODIN_API_ROOT="ftp://x", JOB_API_ROOT="http://x/"))
    assert faults_of(path) == [
        "Missing in config: ODIN_SECRET",
        "Missing in config: JOB_API_USERNAME",
        "ODIN_API_ROOT does not look like an url: ftp://x",
        "JOB_API_ROOT must not end with /",
    ]


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("httpx", "look like an url"),
        ("http://", "look like an url"),
        ("http://a b/", "look like an url"),
        ("http://a:port", "look like an url"),
        ("http://[", "look like an url"),
        ("http://u:p@h/rest_api", "must not hold a user name"),
        ("http://h/rest_api?a=b", "without ? or #"),
    ],
)
def test_a_root_must_be_a_plain_url(config, root, says):
    (fault,) = faults_of(config(lines(JOB_API_ROOT=root)))
    assert says in fault


def test_overrides_win_where_they_say_something(config):
    path = config(lines(ODIN_SECRET=None))
    settings = load_settings(path, {"ODIN_SECRET": "vaulted", "JOB_API_PASSWORD": 12345, "JOB_API_USERNAME": ""})
    assert (settings.odin_secret, settings.job_api_password, settings.job_api_username) == ("vaulted", "12345", "ana")


def test_overrides_alone_are_enough():
    assert load_settings(None, GOOD).job_api_username == "ana"


def test_a_mistyped_override_is_named():
    assert "Not a setting: ODIN_SECRETT" in faults_of(None, GOOD | {"ODIN_SECRETT": "x"})[0]


def test_a_value_of_two_lines_is_refused():
    assert faults_of(None, GOOD | {"ODIN_SECRET": "a\nb"}) == ["ODIN_SECRET must be one line of printable characters"]


def test_a_file_that_is_not_there_or_no_text_is_one_line(config, tmp_path):
    assert faults_of(tmp_path / "none.conf") == [
        f"Config file {tmp_path}/none.conf cannot be read: No such file or directory"
    ]
    assert "UTF-8" in faults_of(config(b"\xff\xfe"))[0]


def test_a_file_that_others_can_read_is_noticed(config):
    path = config(lines())
    path.chmod(0o640)
    assert readable_by_others(path)
    path.chmod(0o600)
    assert not readable_by_others(path)
