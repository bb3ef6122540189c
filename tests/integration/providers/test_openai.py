"""Runs and searches that a service of OpenAI's interface trains, and what it may answer instead."""

import json
import re
from pathlib import Path

import pytest

from pipeline.providers import patience, tuning
from pipeline.providers.openai import Service
from pipeline.tracking.signature import KEY_VARIABLE
from tests.support.chats import REPLIES, chats, write_chats
from tests.support.services import cut_off, html, openai_double, serving, status
from tests.support.stores import artifact

PRICE = {"training": 10.0, "input": 20.0, "output": 30.0}


@pytest.fixture(autouse=True)
def setting(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example.com")
    monkeypatch.setattr(patience, "FIRST", 0.01)
    monkeypatch.setattr(tuning, "LISTED_SECONDS", 0.2)
    write_chats(Path("chat.jsonl"), chats(40))


@pytest.fixture
def service():
    return openai_double()


@pytest.fixture
def address(service):
    with serving(service) as address:
        yield f"{address}/v1"


def settings(address, *more):
    price = ", ".join(f"{key}: {value}" for key, value in PRICE.items())
    return [
        "provider=openai",
        f"provider.base_url={address}",
        "provider.model=gpt-tiny",
        f"provider.price={{{price}}}",
        "provider.poll_seconds=0.01",
        "task=chat",
        "task.objective=val/rougeL",
        "data=files",
        "data.train=chat.jsonl",
        *more,
    ]


def test_a_run_has_the_scores_the_cost_and_the_events_of_its_job(cli, runs, address, service):
    more = ("provider.n_epochs=2", "provider.keys.n_epochs=epochs", "evaluation.test=true")
    assert cli("train", *settings(address, *more)).code == 0
    (run,) = runs("run")
    metrics, tags = run.data.metrics, run.data.tags
    ((job_id, job),) = service.jobs.items()
    sent = {"epochs": 2}
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": sent}}
    assert (tags["tunewright.provider_job"], tags["tunewright.tuned_model"]) == (
        job_id,
        f"ft:{job_id}",
    )
    told = json.loads(artifact(run, "job.json").read_text())
    assert [event["step"] for event in told["events"]] == [1, 2]
    table = json.loads(artifact(run, "predictions.json").read_text())["data"]
    right = [row[1][-1]["content"] == row[2] == "A colour." for row in table]
    assert metrics["test/exact_match"] == pytest.approx(sum(right) / len(right))
    questions = len(service.prompts)
    paid = {"trained": 5_000, "read": 7 * questions, "written": 3 * questions}
    assert told["tokens"] == paid
    cost = sum(n * price for n, price in zip(paid.values(), PRICE.values(), strict=True)) / 1e6
    assert metrics["cost/usd"] == pytest.approx(cost)
    assert metrics["cost/train_seconds"] == 60
    assert not any(key.startswith(("model.", "optimizer.")) for key in run.data.params)
    rows = [json.loads(line) for line in service.files[job["training_file"]][1].splitlines()]
    assert {row["messages"][-1]["content"] for row in rows} == set(REPLIES.values())
    prompt = service.prompts[0]
    assert (prompt["temperature"], prompt["messages"][-1]["role"]) == (0.0, "user")


def test_no_file_is_sent_twice_and_no_secret_is_kept(cli, runs, address, service, working_folder):
    for seed in (1, 2):
        assert cli("train", *settings(address, f"seed={seed}")).code == 0
    assert len(runs("run")) == len(service.jobs) == 2
    assert len(service.files) == service.asked["POST files"] == 2
    assert set(service.headers) == {"Bearer sk-secret-of-mine"}
    texts = (path.read_bytes() for path in working_folder.rglob("*") if path.is_file())
    assert not any(b"sk-secret-of-mine" in text for text in texts)


PASSING = {
    "a page instead of JSON": html,
    "an answer cut off": cut_off,
    "an error of the server": lambda: status(500, "try later"),
    "too many requests": lambda: status(429, "slow down", "rate_limit_exceeded", retry_after="0"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("effects", [False, True], ids=["refused", "only the answer lost"])
def test_what_passes_is_waited_for_and_nothing_is_begun_twice(
    cli, runs, address, service, fault, effects
):
    service.effects = effects
    service.faults = {
        r"POST /v1/files": [fault],
        r"POST /v1/fine_tuning/jobs": [fault],
        r"GET /v1/f.*": [fault, fault],
        r"POST /v1/chat/completions": [fault] * 3,
    }
    ended = cli("train", *settings(address))
    assert ended.code == 0, ended.err
    assert (len(service.jobs), len(service.files)) == (1, 2)
    assert not any(service.faults.values())
    (run,) = runs("run")
    assert run.data.metrics["val/rougeL"] > 0


FAILING = {
    "quota": (
        r"POST /v1/fine_tuning/jobs",
        lambda: status(429, "You exceeded your current quota", "insufficient_quota"),
        "quota: .*You exceeded your current quota",
    ),
    "moderation": (
        r"POST /v1/fine_tuning/jobs",
        lambda: status(400, "The file violates our usage policies", "policy"),
        "moderation: .*violates our usage policies",
    ),
    "model gone": (
        r"POST /v1/chat/completions",
        lambda: status(404, "The model does not exist", "model_not_found"),
        "gone: .*does not exist",
    ),
}


@pytest.mark.parametrize(("path", "fault", "said"), FAILING.values(), ids=FAILING)
def test_what_does_not_pass_ends_the_run_in_the_services_words(
    cli, runs, address, service, path, fault, said
):
    service.faults = {path: [fault]}
    ended = cli("train", *settings(address))
    assert ended.code == 2
    (run,) = runs("run")
    assert run.info.status == "FAILED"
    reason = run.data.tags["tunewright.reason"]
    assert re.match(said, reason), reason
    assert reason.partition(": ")[2] in " ".join(ended.err.split())
    assert cli("resume", run.info.run_id).code == 0  # with the job, where one was begun
    assert len(service.jobs) == 1


def test_a_job_that_is_listed_is_waited_for_and_one_that_is_gone_is_not(
    cli, runs, address, service
):
    unknown = [lambda: status(404, "No such job")]
    nothing = [lambda: status(404)] * 9  # not all services have these
    service.faults = {
        r"GET /v1/fine_tuning/jobs/ftjob-1": unknown,
        r"GET .*/(events|checkpoints)": nothing,
    }
    assert cli("train", *settings(address)).code == 0
    service.faults = {
        r"GET /v1/fine_tuning/jobs/ftjob-2": [lambda: service.jobs.pop("ftjob-2") and status(404)]
    }
    assert cli("train", *settings(address, "seed=2")).code == 2
    failed = next(run for run in runs("run") if run.info.status == "FAILED")
    reason = failed.data.tags["tunewright.reason"]
    assert reason.startswith("gone: ")
    assert "It was there: it was deleted, or the key is of another account." in reason


def test_a_run_begins_a_new_job_once_its_own_has_failed(cli, runs, address, service):
    service.fail("ftjob-1", "server_error", "Try another time")
    assert cli("train", *settings(address)).code == 2
    (run,) = runs("run")
    resumed = cli("resume", run.info.run_id)
    assert resumed.code == 0, resumed.err
    marks = [job["metadata"]["tunewright"] for job in service.jobs.values()]
    assert marks == [f"{run.info.run_id}-0", f"{run.info.run_id}-1"]


def test_a_job_that_is_listed_late_is_not_begun_twice(cli, address, service, monkeypatch):
    monkeypatch.setattr(tuning, "LISTED_SECONDS", 20.0)
    lists = []

    def late(self, mark):
        lists.append(mark)
        return find(self, mark) if len(lists) > 4 else None

    find = Service.find_job
    monkeypatch.setattr(Service, "find_job", late)
    monkeypatch.setattr(patience.Patience, "wait", lambda self, _: self._check())
    service.effects = True
    service.faults = {r"POST /v1/fine_tuning/jobs": [lambda: status(502)]}
    assert cli("train", *settings(address)).code == 0
    assert len(service.jobs) == 1


def test_a_job_that_is_refused_leaves_nothing_to_resume(cli, address, service):
    service.faults = {r"POST /v1/fine_tuning/jobs": [lambda: status(400, "n_epochs is 60")]}
    ended = cli("train", *settings(address))
    assert ended.code == 2
    assert "n_epochs is 60" in ended.err
    assert "resume" not in ended.err
    assert not list(Path("mlruns/checkpoints").glob("*"))


REFUSED = {
    "a metric of losses": (["task.objective=val/loss"], "expected a metric of replies"),
    "another task": (["task=summarization"], "expected task=chat with task.generate=true"),
    "slices": (["evaluation.slices=[messages]"], "evaluation.slices=.*: it is not computed"),
    "a model it has not": (["provider.model=gpt-tinny"], "Did you mean gpt-tiny?"),
    "a price not known": (["provider.price=null"], "its price is not known; expected 'provider.p"),
    "too much money": (["provider.max_usd=0.001"], r"provider.max_usd=0.001: .* forecast to cost"),
    "no key": (["provider.api_key_env=NOBODYS_KEY"], "the variable NOBODYS_KEY is not set"),
    "OpenAI's key elsewhere": (
        ["provider.base_url=https://llm.example.com/v1"],
        "OPENAI_API_KEY, the key of OpenAI, would be sent to llm.example.com",
    ),
    "an address in the environment": (["provider.base_url=https://api.openai.com/v1"], "unset"),
    "a password in the address": (
        ["provider.base_url=https://me:word@llm.example.com/v1"],
        "provider.base_url=",
    ),
    "an epoch too few": (["provider.n_epochs=0"], "provider.n_epochs=0"),
    "a key of another group": (["provider.epochs=3"], "provider.epochs is not a key"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_before_any_row_is_sent(
    cli, address, service, working_folder, given, said
):
    ended = cli("train", *settings(address, *given))
    assert ended.code == 2
    assert re.search(said, " ".join(ended.err.split())), ended.err
    assert "word@" not in ended.err
    assert not service.files
    assert not working_folder.joinpath("mlruns/mlflow.db").exists()


def test_a_wrong_key_is_refused_in_the_services_words(cli, address, service):
    service.faults = {r"GET /v1/models": [lambda: status(401, "Incorrect API key provided")]}
    ended = cli("train", *settings(address))
    assert ended.code == 2
    assert "401: Incorrect API key provided" in ended.err


def test_lines_that_validation_refuses_are_named_as_rows(cli, runs, address, service):
    service.fail("ftjob-1", "invalid_training_file", "Invalid file format. Line 2, message 1")
    assert cli("train", *settings(address)).code == 2
    (run,) = runs("run")
    reason = run.data.tags["tunewright.reason"]
    assert reason.startswith("validation: job ftjob-1: invalid_training_file: Invalid file format")
    (train,) = [c for c in (c for _, c in service.files.values()) if len(c.splitlines()) > 10]
    second = json.loads(train.splitlines()[1])["messages"]
    named = int(re.search(r"line 2 is row chat.jsonl:(\d+)", reason)[1])
    assert json.loads(Path("chat.jsonl").read_text().splitlines()[named - 1])["messages"] == second


def test_an_interrupted_run_resumes_with_its_job_and_the_replies_it_has(
    cli, runs, address, service, monkeypatch
):
    def interrupt(*_):
        if len(service.prompts) == 2:
            raise KeyboardInterrupt
        return wait(*_)

    wait = patience.Patience.wait
    monkeypatch.setattr(patience.Patience, "wait", interrupt)
    ended = cli("train", *settings(address, "provider.at_once=1"))
    assert ended.code == 130
    (run,) = runs("run")
    assert f"tunewright resume {run.info.run_id}" in ended.err
    assert "goes on at the service, and is paid" in ended.err
    again = cli("train", *settings(address, "provider.at_once=1"))
    assert (again.code, "its job is paid" in again.err) == (2, True)
    monkeypatch.setattr(patience.Patience, "wait", wait)
    assert cli("resume", run.info.run_id).code == 0
    (run,) = runs("run")
    assert run.info.status == "FINISHED"
    assert len(service.jobs) == 1
    asked = [json.dumps(prompt["messages"]) for prompt in service.prompts]
    assert len(asked) == len(set(asked)) == 4
    assert "cost/evaluate_seconds" not in run.data.metrics  # of which a part is not known


def test_doctor_lists_what_the_service_keeps_and_deletes_it_by_name(cli, address, service):
    cli("train", *settings(address))
    where = settings(address)[:4]
    service.jobs["ftjob-1"]["looks"] = 0
    listed = cli("doctor", *where)
    assert listed.code == 0, listed.err
    assert "openai, model ft:ftjob-1: of ftjob-1, of run " in listed.out
    assert listed.out.count("openai, file file-") == 2
    assert cli("doctor", *where, "--delete", "file-1").code == 2
    refused = cli("doctor", "--fix", *where, "--delete", "file-9")
    assert (refused.code, "keeps nothing of ours by that name" in refused.err) == (2, True)
    fixed = cli("doctor", "--fix", *where, "--delete", "file-1", "--delete", "ft:ftjob-1")
    assert fixed.code == 0, fixed.err
    assert list(service.files) == ["file-2"]
    assert service.models == {"gpt-tiny"}


def test_a_foreign_record_chooses_no_service(cli, runs, address, service, monkeypatch, tmp_path):
    assert cli("train", *settings(address)).code == 0
    (run,) = runs("run")
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "another.key"))
    ended = cli("rerun", run.info.run_id)
    assert ended.code == 2
    assert "provider.base_url=" in ended.err
    assert "says where rows and a key go" in ended.err
    assert len(service.jobs) == 1
