"""A run that Google's service trains, by its own clients at a double."""

import json
from pathlib import Path

import pytest

from pipeline.providers import patience, tuning
from tests.support.chats import REPLIES, chats, write_chats
from tests.support.services import account_of, google_double, html, serving, status
from tests.support.stores import artifact


@pytest.fixture
def service():
    return google_double()


@pytest.fixture
def address(service, working_folder, monkeypatch):
    write_chats(Path("chat.jsonl"), chats(40))
    monkeypatch.setattr(patience, "FIRST", 0.01)
    monkeypatch.setattr(tuning, "LISTED_SECONDS", 0.2)
    with serving(service) as address:
        monkeypatch.setenv(
            "GOOGLE_APPLICATION_CREDENTIALS", str(account_of(working_folder, address))
        )
        yield address


def settings(address, *more):
    return [
        "provider=vertex",
        f"provider.base_url={address}",
        f"provider.storage_url={address}",
        "provider.model=gemini-tiny",
        "provider.project=p",
        "provider.location=l",
        "provider.bucket=gs://b/rows",
        "provider.price={training: 10, input: 20, output: 30}",
        "provider.poll_seconds=0.01",
        "task=chat",
        "task.objective=val/rougeL",
        "data=files",
        "data.train=chat.jsonl",
        *more,
    ]


def test_a_run_is_tuned_from_the_bucket_and_scored_by_its_endpoint(cli, runs, address, service):
    more = ("provider.n_epochs=2", "provider.adapter_size=4", "provider.learning_rate_multiplier=2")
    ended = cli("train", *settings(address, *more))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    ((number, job),) = service.jobs.items()
    assert job["baseModel"] == "gemini-tiny"
    spec = job["supervisedTuningSpec"]
    assert spec["hyperParameters"] == {
        "epochCount": 2,
        "adapterSize": "ADAPTER_SIZE_FOUR",
        "learningRateMultiplier": 2.0,
    }
    assert job["labels"] == {"tunewright": f"{run.info.run_id}-0"}
    _, content = service.files[spec["trainingDatasetUri"].removeprefix("gs://b/")]
    rows = [json.loads(line) for line in content.splitlines()]
    assert {row["contents"][-1]["parts"][0]["text"] for row in rows} == set(REPLIES.values())
    assert {row["contents"][-1]["role"] for row in rows} == {"model"}
    tags, metrics = run.data.tags, run.data.metrics
    assert tags["tunewright.provider_job"] == f"projects/p/locations/l/tuningJobs/{number}"
    table = json.loads(artifact(run, "predictions.json").read_text())["data"]
    right = [row[1][-1]["content"] == row[2] == "A colour." for row in table]
    assert metrics["val/exact_match"] == pytest.approx(sum(right) / len(right))
    asked = len(service.prompts)
    paid = 10 * 2 * 2500 + 20 * 7 * asked + 30 * 3 * asked
    assert metrics["cost/usd"] == pytest.approx(paid / 1e6)
    assert metrics["cost/train_seconds"] == 60
    how = service.prompts[0]["generationConfig"]
    assert (how["temperature"], how["thinkingConfig"]) == (0.0, {"thinking_budget": 0})


@pytest.mark.parametrize("fault", [html, lambda: status(503), lambda: status(429)])
@pytest.mark.parametrize("effects", [False, True], ids=["refused", "only the answer lost"])
def test_what_passes_is_waited_for_and_nothing_is_begun_twice(
    cli, address, service, fault, effects
):
    service.effects = effects
    service.faults = {
        r"POST .*/tuningJobs": [fault],
        r"POST /upload/.*": [lambda: status(503)],
        r"GET .*/tuningJobs/.*": [fault],
        r"POST .*:generateContent": [fault] * 3,
    }
    ended = cli("train", *settings(address))
    assert ended.code == 0, ended.err
    assert (len(service.jobs), len(service.files)) == (1, 2)
    assert not any(service.faults.values())


def test_missing_credentials_and_models_are_refused(cli, address, service, monkeypatch):
    ended = cli("train", *settings(address, "provider.model=gemini-other"))
    assert ended.code == 2
    assert "model gemini-other: 404" in ended.err
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "nowhere")
    ended = cli("train", *settings(address))
    assert ended.code == 2
    assert "no credentials of Google" in ended.err
    assert not service.files


def test_doctor_lists_what_google_keeps_and_deletes_rows_by_name(cli, address, service):
    assert cli("train", *settings(address)).code == 0
    where = settings(address)[:7]
    listed = cli("doctor", *where)
    assert listed.out.count("vertex, file gs://b/rows/tunewright-") == 2
    assert "vertex, model projects/p/locations/l/endpoints/7: of projects/p/" in listed.out
    name = f"gs://b/{next(iter(service.files))}"
    assert cli("doctor", "--fix", *where, "--delete", name).code == 0
    assert len(service.files) == 1
    kept = cli("doctor", "--fix", *where, "--delete", "projects/p/locations/l/endpoints/7")
    assert (kept.code, "gcloud ai endpoints undeploy-model" in kept.out) == (1, True)
