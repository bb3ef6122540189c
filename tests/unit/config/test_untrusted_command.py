"""A search's command line from a record chooses values; it runs nothing and reads no other file."""

from dataclasses import fields

import pytest

from pipeline.common.errors import ConfigError
from pipeline.config.untrusted_command import SEARCH, check_chosen, check_command
from pipeline.search.options import Options


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x={_target_:subprocess.check_output,args:[touch,ran]}",
        "++hydra.callbacks.x._target_=os.system",
        "hydra.searchpath=[file:///elsewhere]",
        "hydra.sweep.dir=/elsewhere",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.setup=['touch ran']",
        "hydra={sweep:{dir:/elsewhere}}",
        "hydra.sweeper={storage:x.db}",
        "hydra.sweeper.storage=x.db",
        "hydra.sweeper.custom_search_space=os.system",
        "hydra.sweeper.params={data.train:'/elsewhere/x.csv'}",
        "hydra.sweeper.warm_start=/elsewhere/x.journal#a",
        "hydra.sweeper.sampler._target_=os.system",
        "hydra.sweeper.sampler.x={_target_:os.system}",
        "+optimizer._target_=os.system",
        "optimizer.eps=1,{a:[{_target_:os.system}]}",
        "data.text=${oc.env:HOME}",
        "data.text=a,'${oc.env:HOME}'",
        "data.text=extend_list('${oc.env:HOME}')",
        "model=../../elsewhere/evil",
        "model=bert-base,/elsewhere/evil",
        "model=[../../evil]",
        "hydra.sweeper.zip=[{data.train:[/elsewhere/a.csv,/elsewhere/b.csv]}]",
        "hydra.sweeper.stages=[{space:{data.train:[/elsewhere/a.csv]}}]",
        "hydra/sweeper/sampler=../../evil",
        "+model@hydra.callbacks=evil",
        "seed=1,",
    ],
)
def test_what_does_more_than_choose_values_is_refused(override):
    with pytest.raises(ConfigError):
        check_command(["seed=1", override], "study mine, its command line")


def test_refusal_says_how_to_allow_it():
    expected = r"^study mine, its command line: hydra/launcher=x says how .* give hydra/launcher=…"
    with pytest.raises(ConfigError, match=expected):
        check_command(["hydra/launcher=x"], "study mine, its command line")


def test_what_searches_are_made_of_passes():
    command = (
        "model=minilm,bert-base",
        "data=files",
        "data.train='../x.csv'",  # which is checked once it is composed
        "~evaluation.slices",
        "optimizer.learning_rate=tag(log,interval(1e-5,1e-3))",
        "training.batch_size=choice(16,32)",
        "seed=range(1,4)",
        "hydra/sweeper/sampler=tpe",
        "hydra.sweeper.sampler.n_startup_trials=3",
        "hydra.sweeper.n_trials=4",
        "model=''",
        "hydra.sweeper.budget.minutes=3",
    )
    check_command(command, "")


def test_options_of_the_search_that_name_code_or_files_are_left_out():
    others = {"storage", "params", "custom_search_space", "warm_start", "allow_sampler"}
    others |= {"zip", "first", "when", "stages"}  # which choose values of other keys
    assert {field.name for field in fields(Options)} - SEARCH == others


def test_only_what_the_command_line_chose_is_checked():
    tree = {"data": {"source": "files", "train": "/elsewhere/x.csv", "test": "/elsewhere/y.csv"}}
    check_chosen(tree, ["data=mine", "seed=1"], [], "")  # the file of the option is the user's
    for override in ("data.test=x,/elsewhere/y.csv", "+data={test:/elsewhere/y.csv}"):
        with pytest.raises(ConfigError, match=r"^x: data\..*/elsewhere/.\.csv lies outside"):
            check_chosen(tree, [override], [], "x")
