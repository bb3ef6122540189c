"""The official client at the server: files, jobs that wait, and what is refused, and how."""

import io
import json
from dataclasses import replace

import openai
import pytest
from openai import OpenAI

from pipeline.hosting.limits import Limits
from pipeline.hosting.service import Service
from tests.support.tuning import client_of, served

SMALL = replace(Limits(), file_bytes=2000, body_bytes=4000, waiting_jobs=3)
ROW = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n"


@pytest.fixture
def port(working_folder):
    """A server at which no job is carried out."""
    del working_folder
    with served(Service(slots=0, limits=SMALL)) as port:
        yield port


@pytest.fixture
def client(port):
    return client_of(port)


def upload(client: OpenAI, name="rows.jsonl", content=ROW):
    return client.files.create(file=(name, content.encode()), purpose="fine-tune")


def create(client: OpenAI, **given):
    file = given.pop("training_file", None) or upload(client).id
    return client.fine_tuning.jobs.create(**{"model": "qwen", "training_file": file, **given})


def test_a_file_is_kept_as_it_was_sent_and_deleted(client):
    file = upload(client, "/home/me/../rows é.jsonl")
    assert (file.filename, file.bytes, file.status) == ("rows é.jsonl", len(ROW), "processed")
    assert client.files.content(file.id).read() == ROW.encode()
    assert client.files.wait_for_processing(file.id).id == file.id
    other = upload(client)
    assert [one.id for one in client.files.list(limit=1)] == [other.id, file.id]  # all pages
    assert [one.id for one in client.files.list(order="asc")] == [file.id, other.id]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
        client.files.retrieve(file.id)


@pytest.mark.parametrize(
    ("content", "purpose", "status", "said"),
    [
        (b"", "fine-tune", 400, "The file is empty"),
        (b"x" * 2001, "fine-tune", 413, "larger than 2000 bytes"),
        (b"x" * 70_000, "fine-tune", 413, "larger than"),
        (ROW.encode(), "assistants", 400, "expected 'fine-tune'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing(
    client, content, purpose, status, said
):
    with pytest.raises(openai.APIStatusError, match=said) as error:
        client.files.create(file=("rows.jsonl", io.BytesIO(content)), purpose=purpose)
    assert error.value.status_code == status
    assert error.value.request_id
    assert not client.files.list().data


@pytest.mark.parametrize(
    "path", ["files/*", "files/file-*", "files/..%2F..%2Fmlflow.db", "fine_tuning/jobs/ftjob-*"]
)
def test_an_id_is_no_path(client, path):
    with pytest.raises(openai.NotFoundError):
        client.get(f"/{path}", cast_to=object)


def test_what_the_server_cannot_do_with_a_file_is_refused_by_name(client):
    later = {"anchor": "created_at", "seconds": 3600}
    with pytest.raises(openai.BadRequestError, match=r"Unknown parameter: 'expires_after"):
        client.files.create(
            file=("rows.jsonl", ROW.encode()), purpose="fine-tune", expires_after=later
        )


def test_a_job_waits_with_what_it_was_given(client):
    numbers = {"n_epochs": 2, "learning_rate_multiplier": 0.5}
    method = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    job = create(client, method=method, seed=3, suffix="mine", metadata={"trial": "1"})
    assert (job.status, job.seed, job.metadata) == ("queued", 3, {"trial": "1"})
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == "auto"
    (event,) = client.fine_tuning.jobs.list_events(job.id).data
    assert event.message == f"Created fine-tuning job: {job.id}"
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    old = create(client, hyperparameters={"n_epochs": 4})  # the older place
    jobs = client.fine_tuning.jobs
    assert jobs.retrieve(old.id).hyperparameters.n_epochs == 4
    assert [one.id for one in jobs.list(limit=1)] == [old.id, job.id]
    assert [one.id for one in jobs.list(metadata={"trial": "1"})] == [job.id]


def test_a_job_is_paused_resumed_and_cancelled(client):
    job = create(client)
    jobs = client.fine_tuning.jobs
    assert jobs.pause(job.id).status == "queued"
    assert jobs.resume(job.id).status == "queued"
    with pytest.raises(openai.BadRequestError, match="is not paused"):
        jobs.resume(job.id)
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="has status cancelled; it is over"):
        jobs.cancel(job.id)
    said = [event.message for event in jobs.list_events(job.id)]
    assert said[:3] == ["The job was cancelled", "The job was resumed", "The job was paused"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "ft:qwen:me::1"}, "a tuned model is not tuned further here"),
        ({"model": "qwn"}, "no such model to tune. Did you mean qwen"),
        ({"training_file": "file-1"}, "No such File object: file-1"),
        ({"validation_file": "file-1"}, "No such File object: file-1"),
        (
            {"hyperparameters": {"n_epochs": 0}},
            "Invalid 'hyperparameters.n_epochs': Input should be greater than or equal to 1; got 0",
        ),
        ({"hyperparameters": {"n_epochs": True}}, "Input should be a valid integer"),
        (
            {"hyperparameters": {"batch_size": "big"}},
            "Invalid 'hyperparameters.batch_size': Input should be a valid integer",
        ),
        ({"hyperparameters": {"epochs": 1}}, "Unknown parameter: 'hyperparameters.epochs'"),
        ({"method": {"type": "dpo"}}, "Invalid 'method.type': Input should be 'supervised'"),
        ({"suffix": "a/b"}, "Invalid 'suffix'"),
        ({"seed": -1}, "Invalid 'seed'"),
        ({"metadata": {"k": "v" * 513}}, "Invalid 'metadata.k'"),
        ({"integrations": [{"type": "wandb"}]}, "Invalid 'integrations'"),
        ({"extra_body": {"colour": 1}}, "Unknown parameter: 'colour'"),
        ({"training_file": "x" * 5000}, "The request is larger than 4000 bytes"),
        (
            {
                "hyperparameters": {"n_epochs": 1},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {}}},
            },
            "differ from those of the method",
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused_by_name(client, given, said):
    with pytest.raises(openai.APIStatusError, match=said) as error:
        create(client, **given)
    assert set(error.value.body) == {"message", "type", "param", "code"}
    assert not client.fine_tuning.jobs.list().data


def test_more_jobs_than_may_wait_are_refused_for_now(client):
    file = upload(client).id
    for _ in range(SMALL.waiting_jobs):
        create(client, training_file=file)
    with pytest.raises(openai.RateLimitError, match="3 jobs wait or run already"):
        create(client, training_file=file)
    assert len(client.fine_tuning.jobs.list().data) == SMALL.waiting_jobs


def test_what_one_key_has_no_other_sees(client, port):
    file, job = upload(client), create(client)
    other = client_of(port, "sk-two")
    assert not other.files.list().data
    assert not other.fine_tuning.jobs.list().data
    for ask in (
        lambda: other.files.content(file.id),
        lambda: other.files.delete(file.id),
        lambda: other.fine_tuning.jobs.cancel(job.id),
        lambda: other.fine_tuning.jobs.list_events(job.id),
        lambda: create(other, training_file=file.id),
    ):
        with pytest.raises(openai.NotFoundError, match="No such"):
            ask()


def test_a_key_is_needed_and_may_have_to_be_one_of_some(working_folder):
    del working_folder
    with served(Service(slots=0, keys=["sk-in"])) as port:
        assert client_of(port, "sk-in").models.list().data
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
            client_of(port, "sk-out").models.list()
        with pytest.raises(openai.AuthenticationError, match="provide an API key"):
            client_of(port, "sk-in").models.list(extra_headers={"Authorization": ""})


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "said"),
    [
        ("POST", "/fine_tuning/jobs", b'{"model": ', 400, "is not valid JSON"),
        ("POST", "/fine_tuning/jobs", b"\xff\xfe", 400, "JSON"),
        ("POST", "/fine_tuning/jobs", b"[]", 400, "Invalid 'body'"),
        ("POST", "/files", b"no form", 400, "Missing required parameter: 'purpose'"),
        ("GET", "/assistants", None, 404, "GET /v1/assistants"),
        ("PUT", "/files", None, 405, "PUT /v1/files"),
    ],
)
def test_what_is_no_request_of_the_interface_is_an_error_of_its_shape(
    port, method, path, content, status, said
):
    import httpx2

    headers = {"Authorization": "Bearer sk-one", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/v1{path}"
    reply = httpx2.request(method, url, content=content, headers=headers)
    assert reply.status_code == status
    assert said in reply.json()["error"]["message"]


def test_a_page_of_another_site_cannot_ask_by_a_name_of_its_own(port):
    import httpx2

    headers = {"Authorization": "Bearer sk-one", "Host": "evil.example"}
    reply = httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers=headers)
    assert reply.status_code == 400


def test_models_are_those_of_the_menu(client):
    names = [model.id for model in client.models.list()]
    assert "qwen" in names
    assert client.models.retrieve("qwen").owned_by == "tunewright"
    for ask in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError, match="`ft:qwen` does not exist"):
            ask("ft:qwen")
    hello = [{"role": "user", "content": "Hi"}]
    with pytest.raises(openai.NotFoundError, match="`qwen` does not exist"):
        client.chat.completions.create(model="qwen", messages=hello)
