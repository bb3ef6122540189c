"""Searches whose trials a service trains: budgets, stops, failures, and trials trained here."""

import json
from pathlib import Path

import pytest

from pipeline.providers import patience
from pipeline.providers.openai import Service
from pipeline.search.study import steering
from tests.support.chats import chats, write_chats
from tests.support.services import openai_double, serving, status
from tests.support.studies import open_study

STUDY = "hydra.sweeper.study_name=mine"


@pytest.fixture
def service():
    return openai_double()


@pytest.fixture
def settings(service, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setattr(patience, "FIRST", 0.01)
    write_chats(Path("chat.jsonl"), chats(40))
    with serving(service) as address:
        menu = Path("conf/provider")
        menu.mkdir(parents=True)
        menu.joinpath("double.yaml").write_text(
            f"defaults: [openai]\nbase_url: {address}/v1\nmodel: gpt-tiny\npoll_seconds: 0.01\n"
            "price: {training: 100, input: 0, output: 0}\nmax_usd: null\n"
        )
        yield (
            *("task=chat", "task.objective=val/rougeL", "data=files", "data.train=chat.jsonl"),
            *(STUDY, "hydra.sweeper.n_jobs=1"),
        )


def test_local_and_hosted_trials_are_scored_alike_in_one_study(cli, runs, settings, chatter):
    local = ("model=hub", f"model.checkpoint={chatter}", "training.max_length=64")
    more = (*local, "training.epochs=1", "task.generation.max_new_tokens=8")
    ended = cli("train", "-m", "provider=none,double", *settings, *more)
    assert ended.code == 0, ended.err
    assert "2 of 2 trials done" in ended.out
    assert "provider=openai, gpt-tiny: a trial costs about" in ended.out
    here, hosted = runs("trial")
    assert here.data.params["provider.name"] == "none"
    assert hosted.data.params["provider.name"] == "openai"
    shared = {"val/rougeL", "val/rouge1", "val/exact_match", "val/frequent_reply/rougeL"}
    assert shared <= here.data.metrics.keys() & hosted.data.metrics.keys()
    guess = [run.data.metrics["val/frequent_reply/rougeL"] for run in (here, hosted)]
    assert guess[0] == guess[1]
    (study,) = runs("study")
    charged = hosted.data.metrics["cost/usd"]
    assert charged == pytest.approx(5_000 * 100 / 1e6)
    assert study.data.metrics["spent/usd"] == pytest.approx(charged)


def test_a_budget_ends_a_search_before_the_trial_that_it_has_no_room_for(
    cli, runs, service, settings
):
    given = ("train", "-m", "provider=double", "provider.n_epochs=3,4", *settings)
    refused = cli(*given, "hydra.sweeper.budget.usd=0.01")
    assert (refused.code, len(service.jobs)) == (2, 0)
    assert "budget.usd=0.01: a trial is forecast to cost 0.23 USD at least" in refused.err
    ended = cli(*given, "hydra.sweeper.budget.usd=0.6")
    assert ended.code == 0, ended.err
    assert "budget.usd=0.6 has no room for a trial of" in ended.out
    assert len(service.jobs) == 1
    again = cli(*given, "hydra.sweeper.budget.usd=5")
    assert again.code == 0, again.err
    assert "2 of 2 trials done" in again.out
    assert len(service.jobs) == 2
    (study,) = runs("study")
    assert study.data.metrics["spent/usd"] == pytest.approx(2 * 0.5)


def test_a_stopped_trial_cancels_its_job(cli, service, settings, monkeypatch):
    def job_of(self, job_id):
        if job_id != "ftjob-1":
            service.polls = 1
        elif service.jobs[job_id]["looks"] == 0:
            steering.stop_trial(open_study(Path("mlruns/studies/mine")), 0)
        return look(self, job_id)

    service.polls = 1_000  # done only if it is not cancelled
    service.faults = {r"POST .*/cancel": [lambda: status(503)]}
    look = Service.job
    monkeypatch.setattr(Service, "job", job_of)
    monkeypatch.setattr(steering, "LOOK_SECONDS", 0.0)
    ended = cli("train", "-m", "provider=double", "seed=1,2", "provider.poll_seconds=2", *settings)
    assert ended.code == 0, ended.err
    assert [job["status"] for job in service.jobs.values()] == ["cancelled", "succeeded"]


def test_a_trial_that_lost_its_service_is_retried_with_the_same_job(cli, runs, service, settings):
    down = [lambda: status(503, "down for repairs")] * 100
    service.faults = {r"GET /v1/fine_tuning/jobs/.*": list(down)}
    given = ("provider=double", "provider.n_epochs=1,2", "provider.outage_minutes=0.005")
    ended = cli("train", "-m", *given, *settings)
    assert ended.code == 1
    assert "outage: " in ended.err
    assert "503: down for repairs" in ended.err
    service.faults = {}
    again = cli("retry", "mine")
    assert again.code == 0, again.err
    assert "2 of 2 trials done" in again.out
    assert len(service.jobs) == 2
    done = [run for run in runs("trial") if run.data.tags["tunewright.state"] == "complete"]
    assert {run.data.tags["tunewright.provider_job"] for run in done} == set(service.jobs)
    assert json.loads(done[0].data.tags["tunewright.searched"])


def test_a_paid_job_outlives_the_credit_that_its_evaluation_lacks(cli, runs, service, settings):
    used_up = [lambda: status(429, "You exceeded your quota", "insufficient_quota")] * 2
    service.faults = {r"POST /v1/chat/completions": used_up}
    given = ("provider=double", "provider.n_epochs=2,3", "provider.at_once=1")
    ended = cli("train", "-m", *given, *settings)
    assert ended.code == 1
    assert "`tunewright retry` with the study's name goes on with its job" in ended.err
    service.faults = {}
    again = cli("retry", "mine")
    assert again.code == 0, again.err
    assert len(service.jobs) == 2
    assert runs("study")[0].data.metrics["spent/usd"] == pytest.approx(2 * 0.5)
    assert not list(Path("mlruns/checkpoints").glob("*"))


def test_a_job_that_was_never_begun_costs_nothing(cli, runs, service, settings):
    refused = [lambda: status(400, "This model cannot be tuned")]
    service.faults = {r"POST /v1/fine_tuning/jobs": refused}
    ended = cli("train", "-m", "provider=double", "provider.n_epochs=2,3", *settings)
    assert ended.code == 0, ended.err
    assert runs("study")[0].data.metrics["spent/usd"] == pytest.approx(0.5)


def test_seeds_that_are_done_are_not_paid_again_after_an_interruption(
    cli, runs, service, settings, monkeypatch
):
    def interrupted(self, order):
        if len(service.jobs) == 1:
            raise KeyboardInterrupt
        return create(self, order)

    create = Service.create
    monkeypatch.setattr(Service, "create", interrupted)
    given = ("provider=double", "provider.n_epochs=2,3", "hydra.sweeper.repeats=2")
    assert cli("train", "-m", *given, *settings).code == 130
    monkeypatch.setattr(Service, "create", create)
    looked = cli("doctor", "--fix")
    assert "its job at a service is paid, or at work: its search goes on with it" in looked.out
    ended = cli("train", "-m", *given, *settings)
    assert ended.code == 0, ended.err
    assert "2 of 2 trials done" in ended.out
    assert len(service.jobs) == 4
    done = [run for run in runs("trial") if run.data.tags["tunewright.state"] == "complete"]
    assert {run.data.tags["tunewright.provider_job"] for run in done} == set(service.jobs)


def test_the_winner_of_a_service_is_confirmed_there(cli, service, settings):
    given = ("provider=double", "provider.n_epochs=2,3", *settings)
    assert cli("train", "-m", *given).code == 0
    confirmed = cli("confirm", "mine", "--seeds", "2")
    assert confirmed.code == 0, confirmed.err
    assert "a trial costs about" in confirmed.out
    assert len(service.jobs) == 2 + 2 * 2
    seeds = [job["seed"] for job in service.jobs.values()]
    assert len(set(seeds)) == 3


def test_a_key_that_no_service_reads_is_not_searched(cli, service, settings):
    ended = cli("train", "-m", "provider=double", "optimizer.learning_rate=1e-3,1e-4", *settings)
    assert ended.code == 2
    assert "optimizer.learning_rate: provider=openai trains, and is told nothing" in ended.err
    ended = cli("train", "provider=double", "training.epochs=9", *settings[:4])
    assert ended.code == 2
    assert "training.epochs: provider=openai trains" in ended.err
    assert not service.files


def test_a_killed_trial_collects_its_job_before_the_budget_ends_the_search(
    cli, service, settings, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    wait = patience.Patience.wait
    monkeypatch.setattr(patience.Patience, "wait", interrupted)
    given = ("provider=double", "provider.n_epochs=2,3", "hydra.sweeper.budget.usd=0.3")
    assert cli("train", "-m", *given, *settings).code == 130
    monkeypatch.setattr(patience.Patience, "wait", wait)
    ended = cli("train", "-m", *given, *settings)
    assert ended.code == 0, ended.err
    assert "1 of 2 trials done" in ended.out
    assert "budget.usd" in ended.out
    assert len(service.jobs) == 1
