"""Searches of a plain Hydra program over spaces beyond single keys."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.common.errors import ConfigError
from pipeline.search.study.study import FINGERPRINT
from pipeline.search.study.trials import best_first, ended, state_of
from tests.support.studies import open_study, points

PROGRAM = """
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def cost(cfg):
    return cfg.x * cfg.y + cfg.opt.get("momentum", 0.5)

if __name__ == "__main__":
    cost()
"""


CONFIG = """
defaults:
  - opt: adam
  - _self_
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: auto
hydra: {sweep: {dir: studies/swept}}
x: 1
y: 1
budget: ${x}
"""


FILES = {"adam": "lr: 0.1\nbeta: 0.9\n", "sgd": "lr: 0.1\nmomentum: 0.0\nnesterov: false\n"}


@pytest.fixture
def program(working_folder, monkeypatch, capsys):
    """Run a plain Hydra program under the sweeper in this process; return its study."""
    import sys

    from hydra.core.global_hydra import GlobalHydra

    (working_folder / "program.py").write_text(PROGRAM)
    (working_folder / "conf" / "opt").mkdir(parents=True)
    (working_folder / "conf" / "config.yaml").write_text(CONFIG)
    for name, text in FILES.items():
        (working_folder / "conf" / "opt" / f"{name}.yaml").write_text(text)

    def run(*overrides: str, folder: str = "studies/swept") -> optuna.Study:
        import runpy

        GlobalHydra.instance().clear()
        arguments = ["program.py", "-m", f"hydra.sweep.dir={folder}", *overrides]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # errors come out as they are
        runpy.run_path("program.py", run_name="__main__")
        run.out = capsys.readouterr().out
        return open_study(Path(folder))

    return run


def test_a_choice_opens_keys_in_a_grid(program):
    found = points(
        program("opt=adam,sgd", r"hydra.sweeper.when={opt\=sgd:{opt.momentum:[0.0,0.9]}}", "x=1,2")
    )
    sgd = [{"opt": "sgd", "x": x, "opt.momentum": m} for x in (1, 2) for m in (0.0, 0.9)]
    assert found == [{"opt": "adam", "x": 1}, {"opt": "adam", "x": 2}, *sgd]
    assert "a grid of 6 points" in program.out


def test_a_choice_opens_keys_for_a_sampler(program):
    study = program(
        "opt=adam,sgd",
        r"hydra.sweeper.when={opt\=sgd:{opt.momentum:'interval(0.0,0.9)'}}",
        "hydra.sweeper.n_trials=16",
        "hydra.sweeper.sampler.seed=1",
    )
    found = points(study)
    assert {p["opt"] for p in found} == {"adam", "sgd"}
    assert all(("opt.momentum" in p) == (p["opt"] == "sgd") for p in found)
    assert len({p.get("opt.momentum") for p in found}) > 4


def test_a_key_may_have_another_range_for_each_choice(program):
    when = r"{opt\=sgd:{opt.lr:[1.0,2.0]},opt\=adam:{opt.lr:[0.01]}}"
    found = points(program("opt=adam,sgd", f"hydra.sweeper.when={when}"))
    assert found == [
        {"opt": "adam", "opt.lr for adam": 0.01},
        {"opt": "sgd", "opt.lr for sgd": 1.0},
        {"opt": "sgd", "opt.lr for sgd": 2.0},
    ]


def test_an_opened_choice_opens_further_keys(program):
    when = r"{opt\=sgd:{opt.nesterov:[true,false]},opt.nesterov\=true:{opt.momentum:[0.5,0.9]}}"
    found = points(program("opt=adam,sgd", f"hydra.sweeper.when={when}"))
    assert found == [
        {"opt": "adam"},
        {"opt": "sgd", "opt.nesterov": True, "opt.momentum": 0.5},
        {"opt": "sgd", "opt.nesterov": True, "opt.momentum": 0.9},
        {"opt": "sgd", "opt.nesterov": False},
    ]


@pytest.mark.parametrize(("choice", "momenta"), [("sgd", {0.1, 0.9}), ("adam", {None})])
def test_condition_on_a_fixed_key_holds_always_or_never(program, choice, momenta):
    when = r"hydra.sweeper.when={opt\=sgd:{opt.momentum:[0.1,0.9]}}"
    found = points(program(f"opt={choice}", when, "x=1,2"))
    assert {p.get("opt.momentum") for p in found} == momenta


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (
            r"{opt\=sdg:{opt.momentum:[0.1,0.2]}}",
            "opt=sdg: there is no .* Did you mean sgd",
        ),
        (r"{opt\=sgd:{opt.momntum:[0.1,0.2]}}", "opt.momntum is not a key .* mean opt.momentum"),
    ],
)
def test_a_typo_in_a_condition_that_never_holds_is_refused(program, when, said):
    with pytest.raises(ConfigError, match=said):
        program("opt=adam", "x=1,2", f"hydra.sweeper.when={when}")


def test_a_groups_file_may_bring_its_own_search(program):
    text = FILES["sgd"] + "search: {opt.momentum: [0.1, 0.9]}\n"
    Path("conf/opt/sgd.yaml").write_text(text)
    found = points(program("opt=adam,sgd"))
    assert [p.get("opt.momentum") for p in found] == [None, 0.1, 0.9]
    assert points(program("opt=sgd", "x=1,2", folder="studies/b"))[1]["opt.momentum"] == 0.9
    found = points(program("opt=sgd", "x=1,2", "opt.momentum=0.7", folder="studies/c"))
    assert found == [{"x": 1}, {"x": 2}]  # what is given replaces what the file says


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (r"{opt\=sdg:{opt.momentum:[0.1,0.2]}}", "sdg is none of the values of opt. Did you mean"),
        (
            r"{opf\=sgd:{opt.momentum:[0.1,0.2]}}",
            "opf is not a key of the config. Did you mean opt?",
        ),
        (r"{opt\=sgd:{x:[1,2]}}", "x is searched already in every trial"),
        (r"{opt\=sgd:{opt.lr:[1,2]},opt\=sgd\,adam:{opt.lr:[3,4]}}", "already where opt is sgd"),
        (r"{y\=1:{opt.lr:[1,2]}}", "only a choice opens keys, and y is a range"),
        ("{opt:{opt.lr:[1,2]}}", "expected key=value"),
    ],
)
def test_conditions_that_cannot_be_are_refused(program, when, said):
    with pytest.raises(ConfigError, match=said):
        program("opt=adam,sgd", "x=1,2", "y=range(1,4)", f"hydra.sweeper.when={when}")
    assert not Path("studies").exists()


def test_zipped_values_go_together(program):
    study = program("hydra.sweeper.zip=[{x:[1,2,3],opt.lr:[1e-1,1e-2,1e-3]}]", "y=5,6")
    found = points(study)
    assert len(found) == 6
    assert {p["x with opt.lr"] for p in found} == {"1 with 0.1", "2 with 0.01", "3 with 0.001"}
    assert "2 with 0.01" in program.out
    config = Path("studies/swept/3/.hydra/overrides.yaml").read_text()
    assert config.split() == ["-", "y=6", "-", "x=1", "-", "opt.lr=0.1"]
    results = Path("studies/swept/optimization_results.yaml").read_text()
    assert "x: 1" in results
    assert "opt.lr: 0.1" in results


@pytest.mark.parametrize(
    ("zipped", "said"),
    [
        ("[{x:[1,2],y:[1,2,3]}]", "x has 2, y has 3; expected lists of one length"),
        ("[{x:[],y:[]}]", "expected lists of one length, from 1"),
        ("[{x:1,y:2}]", "expected keys with a list of values each"),
        ("[{x:[1,2],opt.lr:[1,2]},{x:[1,2],y:[1,2]}]", r"sweeper\.zip: x is searched twice"),
        ("{opt.beta:[1,2],y:[1,2]}", r"sweeper\.zip: opt\.beta is searched twice"),
    ],
)
def test_pairs_that_cannot_be_are_refused(program, zipped, said):
    with pytest.raises(ConfigError, match=said):
        program("opt.beta=0.1,0.2", f"hydra.sweeper.zip={zipped}")


def test_fixed_key_leaves_its_zip(program):
    found = points(program("x=7", "hydra.sweeper.zip={x:[1,2],y:[3,4]}"))
    assert [p["y"] for p in found] == ["3", "4"]


def test_a_filter_leaves_points_out_of_a_grid(program):
    study = program("x=1,2,4", "y=1,2,4", "hydra.sweeper.filter='x * y <= 4 and x >= y'")
    assert points(study) == [
        {"x": x, "y": y} for x, y in [(1, 1), (2, 1), (2, 2), (4, 1)]
    ]  # fmt: skip
    assert "a grid of 4 points" in program.out
    assert len(study.trials) == 4


def test_filter_reads_keys_of_a_choice_and_fixed_keys(program):
    text = "opt.momentum + x >= 2 and y == 1 and (opt == 'sgd' or opt.beta > 1)"
    study = program("opt=adam,sgd", "x=1,2", f'hydra.sweeper.filter="{text}"')
    assert points(study) == [{"opt": "sgd", "x": 2}]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "prior"])
def test_a_sampler_never_runs_a_point_that_fails_the_filter(program, sampler):
    study = program(
        "x=interval(0.0,1.0)",
        "y=interval(0.0,1.0)",
        f"hydra/sweeper/sampler={sampler}",
        "hydra.sweeper.sampler.seed=1",
        "hydra.sweeper.filter='x + y > 1.6'",  # the best point lies outside
        "hydra.sweeper.n_trials=12",
    )
    found = points(study)
    assert len(found) == 12
    assert all(p["x"] + p["y"] > 1.6 for p in found)
    assert len({(p["x"], p["y"]) for p in found}) == 12
    is_rejected = "rejected" in {state_of(t) for t in study.trials}
    assert is_rejected == (sampler != "prior")  # which asks the filter itself
    assert "12 of 12 trials done, 0 failed" in program.out


def test_a_filter_that_leaves_nothing_is_refused_before_the_first_trial(program):
    for x in ("interval(0.0,1.0)", "1,2"):
        with pytest.raises(ConfigError, match="leaves \\(almost\\) nothing"):
            program(f"x={x}", "hydra.sweeper.filter='x > 2'")
    assert not Path("studies").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("xx > 1", "xx is not a key of the config. Did you mean x?"),
        ("opt == sgd", "sgd is not a key of the config.*quotes"),
        ("budget > 1", "budget follows x, which is searched"),
    ],
)
def test_a_filter_over_other_keys_is_refused(program, text, said):
    with pytest.raises(ConfigError, match=said):
        program("x=1,2", f"hydra.sweeper.filter='{text}'")


def test_first_points_are_tried_first_and_once(program):
    first = "hydra.sweeper.first=[{x:0.5,y:3},{y:2}]"
    args = ("x=interval(0.0,1.0)", "y=1,2,3", first)
    study = program(*args, "hydra.sweeper.n_trials=3")
    found = points(study)
    assert found[0] == {"x": 0.5, "y": 3}
    assert found[1]["y"] == 2
    assert len(points(program(*args, "hydra.sweeper.n_trials=4"))) == 4
    assert sum(p["x"] == 0.5 for p in points(open_study(Path("studies/swept")))) == 1


def test_a_grid_begins_with_its_first_points(program):
    found = points(program("x=1,2", "y=1,2", "hydra.sweeper.first=[{x:2,y:2},{x:2}]"))
    assert found == [{"x": x, "y": y} for x, y in [(2, 2), (2, 1), (1, 1), (1, 2)]]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("[{x:2.5}]", "point 1: x=2.5 is not in its space, 0 to 1"),
        ("[{x:0.5},{y:4}]", "point 2: y=4 is not in its space, 1, 2, 3"),
        ("[{z:4}]", "point 1: z is not searched"),
        ("[{opt.momentum:0.5}]", "opt.momentum is searched only where opt is sgd"),
        ("[{x:0.9,y:3}]", "point 1: it does not pass the filter"),
        ("{x:0.5}", "expected a list of points"),
        ("histry", "Did you mean history?"),
        ("{history:0}", "{history: 4} for at most 4 points"),
        ("history", "a plain task function has no MLflow record"),
    ],
)
def test_first_points_outside_the_space_are_refused(program, first, said):
    with pytest.raises(ConfigError, match=said):
        program(
            "x=interval(0.0,1.0)",
            "y=1,2,3",
            "opt=adam,sgd",
            r"hydra.sweeper.when={opt\=sgd:{opt.momentum:'interval(0.0,0.9)'}}",
            "hydra.sweeper.filter='x * y < 2'",
            f"hydra.sweeper.first={first}",
        )


def test_a_prior_begins_at_the_configs_own_values(program):
    study = program(
        "hydra/sweeper/sampler=prior",
        "x=interval(0.0,4.0)",
        "y=2,4,8",
        "opt=adam,sgd",
        r"hydra.sweeper.when={opt\=sgd:{opt.momentum:'interval(0.5,0.9)'}}",
        "hydra.sweeper.n_trials=4",
    )
    around = "x around 1, y around 2, opt around adam, opt.momentum around 0.5"
    assert f"\n  prior: {around}\n" in program.out
    assert points(study)[0] == {"x": 1, "y": 2, "opt": "adam"}
    assert study.user_attrs[FINGERPRINT]["search space"]["prior"] == around
    given = "hydra.sweeper.sampler.centre={opt:sgd,opt.lr:0.2}"
    program("hydra/sweeper/sampler=prior", "opt=adam,sgd", "opt.lr=0.1,0.2", given, folder="other")
    assert "\n  prior: opt around sgd, opt.lr around 0.2\n" in program.out
    zipped = ("hydra.sweeper.zip={x:[1,2],y:[2,3]}", "hydra.sweeper.sampler.centre={x:2}")
    with pytest.raises(ConfigError, match=r"centre: x=2, y=1 is not in .*, 2 with 3"):
        program("hydra/sweeper/sampler=prior", *zipped, folder="zipped")
    with pytest.raises(ConfigError, match="sampler=prior: it follows one objective"):
        program(
            "hydra/sweeper/sampler=prior", "x=1,2", "hydra.sweeper.direction=[minimize,minimize]"
        )


def test_a_sampler_learns_from_an_earlier_study(program):
    program("x=interval(0.0,4.0)", "y=1,2", "hydra.sweeper.n_trials=8",
            "hydra.sweeper.study_name=old", folder="studies/old")  # fmt: skip
    old = points(open_study(Path("studies/old")))
    fitting = [p for p in old if p["x"] >= 1]
    new = ("x=interval(1.0,4.0)", "y=1,2,3", "hydra.sweeper.study_name=new",
           "hydra.sweeper.n_trials=3", "hydra.sweeper.warm_start=old")  # fmt: skip
    study = program(*new, folder="studies/new")
    assert f"warm start: {len(fitting)} of 8 trials of old fit" in program.out
    assert "3 of 3 trials done" in program.out
    imported = [t for t in study.trials if state_of(t) == "imported"]
    assert [t.params for t in imported] == fitting
    assert all(t.state == TrialState.COMPLETE for t in imported)
    assert len(ended(study)) == 3
    assert "imported" not in best_first(study)[0].user_attrs
    assert len(program(*new, folder="studies/new").trials) == len(study.trials)


def test_warm_start_uses_values_that_were_fixed_before(program):
    program("x=1,2", "y=3", "hydra.sweeper.study_name=old", folder="studies/old")
    study = program("y=3,4", "x=1", "hydra.sweeper.study_name=new", "hydra.sweeper.warm_start=old",
                    folder="studies/new")  # fmt: skip
    assert "warm start: 1 of 2 trials of old fit" in program.out
    assert [t.params for t in study.trials if state_of(t) == "imported"] == [{"y": 3}]
    assert len(points(study)) == 2


def test_missing_earlier_study_is_refused_by_name(program):
    program("x=1,2", "hydra.sweeper.study_name=older", folder="studies/older")
    with pytest.raises(ConfigError, match="Did you mean older"):
        program("x=1,2", "hydra.sweeper.warm_start=oldr", folder="studies/new")


def test_a_named_sweep_may_say_all_of_it(cli, tiny, runs):
    Path("sweeps").mkdir()
    Path("sweeps/rich.yaml").write_text(
        "about: rich\n"
        "sampler: {name: random, seed: 3}\n"
        "n_trials: 4\n"
        "space: {optimizer: [adamw, sgd]}\n"
        "when:\n  optimizer=sgd:\n    optimizer.momentum: interval(0.5, 0.9)\n"
        "zip: [{training.batch_size: [8, 16], training.max_length: [16, 8]}]\n"
        "filter: \"training.batch_size * training.max_length <= 128 and seed < 50\"\n"
        "first: [{optimizer: sgd, optimizer.momentum: 0.75, training.batch_size: 16}]\n"
    )  # fmt: skip
    own = [o for o in tiny if not o.startswith(("training.max_length",))]
    ended_ = cli("sweep", "rich", *own)
    assert ended_.code == 0, ended_.err
    trials = runs("trial")
    assert len(trials) == 4
    assert trials[0].data.params["optimizer.momentum"] == "0.75"
    assert trials[0].data.params["training.max_length"] == "8"
    assert {t.data.params["optimizer.name"] for t in trials} == {"SGD", "AdamW"}
    study = runs("study")[0]
    shown = cli("best", study.data.tags["tunewright.study"]).out
    assert "training.batch_size = " in shown
    assert cli("sweep", "rich", *own, "hydra.sweeper.filter='seed > 50'").code == 2


def test_the_ready_example_runs(cli, tiny, runs):
    own = [o for o in tiny if not o.startswith(("training.max_length", "optimizer."))]
    ended_ = cli("sweep", "optimizers", *own, "training.max_length=16", "hydra.sweeper.n_trials=2")
    assert ended_.code == 0, ended_.err
    assert runs("trial")[0].data.params["optimizer.learning_rate"] == "5e-05"
