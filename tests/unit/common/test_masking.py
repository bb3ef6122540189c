"""What a secret is, and that none is written down."""

import logging
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.secrets import Masking, masked, masked_message, masked_override, masked_value


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("+hydra.job.env_set.HF_TOKEN=hf_x", "+hydra.job.env_set.HF_TOKEN=***"),
        ("hydra.job.env_set={HF_TOKEN:sesame,A:1}", "hydra.job.env_set={HF_TOKEN:***,A:1}"),
        ("tracking.uri=http://me:sesame@host", "tracking.uri=http://me:***@host"),
        ("s3.api_key='a, b'", "s3.api_key=***"),
        ("+token=sesame", "+token=***"),
        ("credentials.user=sesame", "credentials.user=***"),
        ("+credentials={user:sesame,id:1}", "+credentials=***"),
        ("s3.api_key=null", "s3.api_key=null"),
        ("a=postgresql://h/d?password=sesame&b=1", "a=postgresql://h/d?password=***&b=1"),
        ("model.pad_token=<pad>", "model.pad_token=<pad>"),
        ("training.max_tokens=3", "training.max_tokens=3"),
    ],
)
def test_an_override_is_shown_without_its_secrets(override, shown):
    assert masked_override(override) == shown


def test_a_tree_is_shown_without_its_secrets():
    tree = {"a": {"password": "sesame", "n": 3}, "b": ["x.token=sesame"], "token": None}
    shown = {"a": {"password": "***", "n": 3}, "b": ["x.token=***"], "token": None}
    assert masked_value("", tree) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"api_key": ["x", 1]}, {"api_key": ["***", "***"]}),
        (
            {"credentials": {"a": "b", "c": [{"d": 1}]}},
            {"credentials": {"a": "***", "c": [{"d": "***"}]}},
        ),
        ({"password": 12345, "pwd": 0.5}, {"password": "***", "pwd": "***"}),
        (
            {"token": None, "secret": False, "pass": ""},
            {"token": None, "secret": False, "pass": ""},
        ),
        ({"db-password": b"x", "openaiApiKey": "x"}, {"db-password": "***", "openaiApiKey": "***"}),
        ({"next_token": 5, "bypass": 1}, {"next_token": 5, "bypass": 1}),
        ([{"secret_key": "x"}, ["private_key=x"]], [{"secret_key": "***"}, ["private_key=***"]]),
    ],
)
def test_all_below_a_secret_key_is_masked(value, shown):
    assert masked_value("", value) == shown


def test_a_dotted_key_below_a_secret_one_is_masked():
    assert masked_value("s3.credentials.user", "x") == "***"
    assert masked_value("model.pad_token", "<pad>") == "<pad>"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("password: sesame2", "password: ***"),
        ('api_key = "sesame3"', "api_key = ***"),
        ('  "token": "sesame4",', '  "token": ***'),
        ("got {'api_key': 'x'}, n=3", "got {'api_key': ***}, n=3"),
        ('got {"token":"x","n":3}', 'got {"token":***,"n":3}'),
        (r"got {\"token\": \"a b\", \"n\": 3}", r"got {\"token\": ***, \"n\": 3}"),
        ("with {'api_key': 'x', token=sesame}", "with {'api_key': ***, token=***}"),
        ("password=/etc/x n=3", "password=*** n=3"),
        (
            "secret_key=x private-key=y client_secret=z",
            "secret_key=*** private-key=*** client_secret=***",
        ),
        ("HF_TOKEN=x db-password=y s3.pwd=z", "HF_TOKEN=*** db-password=*** s3.pwd=***"),
        ("openaiApiKey=x HFToken=y PGPASSWORD=z", "openaiApiKey=*** HFToken=*** PGPASSWORD=***"),
        ("secret=a,b n=3", "secret=*** n=3"),
        ("+    password: correct horse  # ours", "+    password: ***"),
        ('+token: str = "sesame"', "+token: ***"),
        ('def f(token: str = "sesame", n=3)', "def f(token: ***, n=3)"),
        ("def f(token: str | None = None)", "def f(token: str | None = None)"),
        ('os.environ["TOKEN"] = "sesame"', 'os.environ["TOKEN"] = ***'),
        ("no token: password: sesame today", "no token: *** today"),
        ("got token: sesame lr=3", "got token: ***"),
        ("with {'credentials': {'a': '}b'}}", "with {'credentials': ***"),
        ("api_key:\n  - x\n  - y\nn: 3", "api_key: ***\nn: 3"),
        ("+password: |\n+  sesame\n n: 3", "+password: ***\n n: 3"),
        (" password:\n+  sesame\n n: 3", " password: ***\n n: 3"),
        ("sent Authorization: Bearer sesame", "sent Authorization: ***"),
        ("password='' or password: null", "password='' or password: null"),
    ],
)
def test_a_setting_in_a_message_is_masked(said, shown):
    assert masked_message(said) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ghp_abc@github.com/x", "https://***@github.com/x"),
        ("git+https://sesame@host:80/x", "git+https://***@host:80/x"),
        ("https://sesame:x-oauth-basic@host", "https://***@host"),
        ("https://sesame:@host", "https://***@host"),
        ("postgresql://me:se/same@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:12/34@host/db", "postgresql://me:***@host/db"),
        ("http://me:a@b@host", "http://me:***@host"),
        ("http://me:a?b#c@host", "http://me:***@host"),
        ("http://me:it's@host", "http://me:***@host"),
        ("http:/me:a@host", "http:/me:***@host"),
        ("http://me:a@host/x?mail=a@b.c", "http://me:***@b.c"),  # more, as `@` may be in a password
        ("http://a:b@c, http://d:e@f,ftp://g:h@i", "http://a:***@c, http://d:***@f,ftp://g:***@i"),
        ("ftp://a/?u=ftp://b:c@d", "ftp://a/?u=ftp://b:***@d"),
        ("a://h/d?n=1&accessToken=x&m=2#token=y", "a://h/d?n=1&accessToken=***&m=2#token=***"),
        ("jdbc:x://h;password=y;n=3", "jdbc:x://h;password=***"),
        ("s3://b/k?n=1&X-Amz-Signature=0a1b&m=2", "s3://b/k?n=1&X-Amz-Signature=***&m=2"),
        ("az://h/c/f?sv=2026&sr=b&sig=a%2Fb%3D", "az://h/c/f?sv=2026&sr=b&sig=***"),
        ("curl -u me:sesame http://h", "curl -u me:*** http://h"),
        (
            "curl -X GET \\\n  --user 'me:a b' http://h",
            "curl -X GET \\\n  --user 'me:***' http://h",
        ),
        ('["curl", "-su", "me:sesame"]', '["curl", "-su", "me:***"]'),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert masked(url) == shown


@pytest.mark.parametrize(
    "said",
    [
        "step 3: loss 0.4, eos_token=</s>",
        "bypass:17, compass=4, recall/pass:0.3",
        "next_token:5 max_new_tokens=6 padToken=<pad> loss_per_token: 0.3",
        "tokens: 5, token_ids=[1, 2], token 3, passed: 7, keys: 8",
        "http://host/a@b https://host:80/x?mail=a@b.c http://[::1]:80/a@b",
        '{"a":"http://host:80/x","b":"me@host"}',
        "postgresql://me@host/db ssh://git@host/x git@host:x",
        "C:/me:a@b D:\\x sqlite:////path/x@y.db sqlite:///a:b@c.db",
        "task-" + "a" * 30,
        "0a1b" * 10 + " sha256:" + "0a1b" * 16 + " run 2026-11-29T03:08:54.123456+00:00",
        "google-bert/bert-base-multilingual-cased Qwen/Qwen2.5-0.5B-Instruct-GPTQ-Int4",
        "curl https://host/x -H Accept:text/plain; docker run --user 1000:1000 sig=0.5",
    ],
)
def test_harmless_text_is_not_masked(said):
    assert masked_message(said) == said


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "a1" * 17,
        "ghp_" + "a1" * 18,
        "gho_" + "a1" * 18,
        "github_pat_" + "a1_" * 20,
        "sk-" + "a" * 20,
        "sk-proj-" + "a1_-" * 20,
        "AKIA" + "A1" * 8,
        "xoxb-" + "12-ab" * 5,
        "xoxe-" + "a1" * 5,
        "xoxe-1-" + "Ab" * 20,
        "https://hooks.slack.com/services/T0A1/B0A1/" + "a1" * 12,
        "glpat-" + "a1" * 10,
        "glpat-" + "a1" * 14 + ".0a.0a1b2c3d4",
        "AIzaSy" + "a1_" * 11,
        "sk_live_" + "a1" * 12,
        "rk_live_" + "a1" * 50,
        "npm_" + "a1" * 18,
        "r8_" + "a1" * 18 + "a",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "SG." + "a1" * 11 + "." + "a1" * 21 + "a",
        "-----BEGIN RSA PRIVATE KEY-----\nMII\n",
    ],
)
def test_the_shape_of_a_token_is_masked_anywhere(token):
    assert masked(f"see ({token}") == "see (***"
    assert masked_value("a", {"b": [token]}) == {"b": ["***"]}


PARTS = [
    *("password", "token", "pad_", "api_key", "Authorization", "Bearer ", "x-oauth-basic", "None"),
    *(": ", ":", "=", "= ", "'", '"', "\\", "://", "http", "/", "@", "?", "&", "#", ";", ",", "|"),
    *("{", "}", "[", "(", "]", "***", "\n", "  ", "+", "- ", "a", "b1", "str", "80", "f", "_", "."),
    *("hf_" + "A" * 20, "sk-" + "a" * 20, "AKIA" + "A" * 16, "-----BEGIN PRIVATE KEY-----", "-"),
    *("glpat-" + "a" * 20, "eyJ" + "a" * 9, "1" * 9 + ":" + "a" * 35, "a" * 32 + "-us", "xoxb-1-"),
    *("curl ", "-u ", "--user '", "&sig=", "X-Amz-Signature="),
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12).map("".join) | st.text()


@pytest.mark.parametrize("mask", [masked, masked_message, masked_override])
def test_masking_twice_equals_masking_once(mask):
    @given(TEXTS)
    def twice(text):
        once = mask(text)
        assert mask(once) == once

    twice()


@pytest.mark.parametrize("start", ["", "token=", "password: ", "http://a:"])
@pytest.mark.parametrize(
    "part",
    [
        "a",
        " ",
        "[",
        "'",
        "\\",
        "-",
        "@",
        "://",
        "?a_",
        "pass",
        "password=a ",
        "token: b=",
        "a:",
        "\n ",
        "eyJ",
        "eyJaaaaaaaaaaaa=",
        "xoxb-1-",
        "https://hooks.slack.com/services/Ta/B",
        "aws key '",
        "curl -u\n",
        "&sig=",
    ],
)
def test_masking_takes_a_time_linear_in_a_line(start, part):
    line = start + part * ((1 << 18) // len(part))
    began = time.perf_counter()
    masked_message(line)
    assert time.perf_counter() - began < 60  # a fraction of a second; hours where it is not linear


def test_a_log_has_no_secrets_in_messages_or_tracebacks():
    log, handler = logging.getLogger("masked"), logging.FileHandler("job.log")
    handler.addFilter(Masking())
    log.addHandler(handler)
    try:
        raise ValueError("no answer from http://me:sesame@host")
    except ValueError:
        log.exception("password=%s", "sesame")
    log.removeHandler(handler)
    text = Path("job.log").read_text(encoding="utf-8")
    assert "ValueError" in text
    assert "sesame" not in text
