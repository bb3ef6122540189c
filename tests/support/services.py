"""Doubles of providers' services, which answer by their documents and fail as they are told."""

import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tests.support.servers import free_port
from tests.support.waiting import wait_until


def html() -> Response:
    """The page of a proxy, with the status of success."""
    return Response("<html>Sign in</html>", media_type="text/html")


def status(code: int, message: str = "", error: str | None = None, **headers: str) -> Response:
    """An error as OpenAI's interface has it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": error}}
    return JSONResponse(body, code, {name.replace("_", "-"): v for name, v in headers.items()})


def cut_off() -> Response:
    """A body that ends before it is whole."""
    return Response('{"id": "ftjob-', media_type="application/json")


@dataclass
class Service:
    """What a double knows, and what it is to answer instead.

    ``faults`` has, by method and a pattern of the path, responses that are given first, each once.
    With ``effects`` such a request is carried out all the same, only its answer is lost.
    """

    app: FastAPI = field(default_factory=FastAPI)
    asked: Counter[str] = field(default_factory=Counter)  # requests by method and first part
    faults: dict[str, list[Any]] = field(default_factory=dict)
    effects: bool = False
    polls: int = 1  # looks at a job before the one that finds it done
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # id -> name, content
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    failing: dict[str, Any] = field(default_factory=dict)  # errors of jobs that fail
    models: set[str] = field(default_factory=set)
    prompts: list[Any] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)  # authorizations that were sent

    def fail(self, job_id: str, code: str, message: str) -> None:
        """Have a job fail at the next look."""
        self.failing[job_id] = {"code": code, "message": message, "param": "training_file"}

    def fault(self, method: str, path: str) -> Any:
        for pattern, left in self.faults.items():
            if left and re.fullmatch(pattern, f"{method} {path}"):
                return left.pop(0)
        return None

    async def faulty(self, request: Request, handle):
        method, path = request.method, request.url.path
        self.asked[f"{method} {path.split('/')[2]}"] += 1
        self.headers.append(request.headers.get("authorization", ""))
        fault = self.fault(method, path)
        if fault is None:
            return await handle(request)
        if self.effects:
            await handle(request)
        return fault()


@contextmanager
def serving(service: Service):
    """Serve a double in a thread; yield its address."""
    service.app.middleware("http")(service.faulty)
    port = free_port()
    config = uvicorn.Config(service.app, port=port, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def openai_double(reply: str = "A colour.") -> Service:
    """OpenAI's fine-tuning: a job is done after some looks at it, its model says one thing."""
    service = Service(models={"gpt-tiny"})
    app, ids = service.app, Counter()

    def new(kind: str) -> str:
        ids[kind] += 1
        return f"{kind}-{ids[kind]}"

    def missing(what: str) -> Response:
        return status(404, f"No such {what}", "not_found")

    def listed(found: list[Any]) -> dict[str, Any]:
        return {"object": "list", "data": found, "has_more": False}

    def file_of(file_id: str) -> dict[str, Any]:
        name, content = service.files[file_id]
        about = {"object": "file", "purpose": "fine-tune", "status": "processed", "created_at": 1}
        return {"id": file_id, "filename": name, "bytes": len(content), **about}

    @app.get("/v1/models")
    def models():
        one = {"object": "model", "created": 1, "owned_by": "me"}
        return listed([{"id": name, **one} for name in service.models])

    @app.delete("/v1/models/{name}")
    def delete_model(name: str):
        if name not in service.models:
            return missing("model")
        service.models.remove(name)
        return {"id": name, "deleted": True, "object": "model"}

    @app.get("/v1/files")
    def files():
        return listed([file_of(one) for one in reversed(service.files)])

    @app.post("/v1/files")
    async def upload(request: Request):
        file = (await request.form())["file"]
        file_id = new("file")
        service.files[file_id] = file.filename, await file.read()
        return file_of(file_id)

    @app.get("/v1/files/{file_id}")
    def file(file_id: str):
        return file_of(file_id) if file_id in service.files else missing("file")

    @app.delete("/v1/files/{file_id}")
    def delete_file(file_id: str):
        found = service.files.pop(file_id, None)
        return {"id": file_id, "deleted": True, "object": "file"} if found else missing("file")

    @app.post("/v1/fine_tuning/jobs")
    async def create(request: Request):
        asked = await request.json()
        job = {
            "id": new("ftjob"),
            "object": "fine_tuning.job",
            "created_at": 4_000_000_000,  # its clock is not ours
            "finished_at": None,
            "status": "pending",  # which no document names
            "fine_tuned_model": None,
            "trained_tokens": None,
            "error": {"code": None, "message": None, "param": None},
            "hyperparameters": {},
            "result_files": [],
            "organization_id": "org",
            "looks": 0,
            **asked,
        }
        service.jobs[job["id"]] = job
        return job

    @app.get("/v1/fine_tuning/jobs")
    def jobs():
        return listed(list(reversed(service.jobs.values())))

    @app.get("/v1/fine_tuning/jobs/{job_id}")
    def job(job_id: str):
        if job_id not in service.jobs:
            return missing("job")
        found = service.jobs[job_id]
        found["looks"] += 1
        if job_id in service.failing:
            found |= {"status": "failed", "error": service.failing[job_id]}
        if found["status"] in ("pending", "running"):
            done = found["looks"] > service.polls
            found["status"] = "succeeded" if done else "running"
            if done:
                found |= {"fine_tuned_model": f"ft:{job_id}", "finished_at": 4_000_000_060}
                found["trained_tokens"] = 5_000
                service.models.add(f"ft:{job_id}")
        return found

    @app.post("/v1/fine_tuning/jobs/{job_id}/cancel")
    def cancel(job_id: str):
        found = service.jobs[job_id]
        if found["status"] in ("succeeded", "failed", "cancelled"):
            return status(400, "it is over", "invalid_state")
        found["status"] = "cancelled"
        return found

    @app.get("/v1/fine_tuning/jobs/{job_id}/checkpoints")
    def checkpoints(job_id: str):
        del job_id
        return listed([])

    @app.get("/v1/fine_tuning/jobs/{job_id}/events")
    def events(job_id: str):
        steps = service.jobs[job_id]["looks"] if job_id in service.jobs else 0
        every = [
            {
                "id": f"{job_id}-{step}",
                "object": "fine_tuning.job.event",
                "created_at": 4_000_000_000,
                "level": "info",
                "message": f"Step {step}",
                "type": "metrics",
                "data": {"step": step, "train_loss": 1.0 / step},
            }
            for step in range(1, steps + 1)
        ]
        return listed(every[::-1])

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        asked = await request.json()
        if asked["model"] not in service.models:
            return status(404, f"The model {asked['model']} does not exist", "model_not_found")
        service.prompts.append(asked)
        return {
            "id": "chat",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": reply},
                }
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }

    return service


def account_of(folder: Path, address: str) -> Path:
    """Write the credentials of a service account whose tokens a double gives; return the file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    about = {"type": "service_account", "project_id": "p", "client_email": "me@p.test"}
    file = folder / "account.json"
    file.write_text(
        json.dumps({**about, "private_key": pem.decode(), "token_uri": f"{address}/v1/token"})
    )
    return file


def google_double(reply: str = "A colour.") -> Service:
    """Google's bucket, tuning and generation, by their documented shapes."""
    service = Service(models={"gemini-tiny"})
    app, where = service.app, "/v1beta1/projects/p/locations/l"

    def missing(what: str) -> Response:
        error = {"code": 404, "message": f"{what} not found", "status": "NOT_FOUND"}
        return JSONResponse({"error": error}, 404)

    def blob(name: str) -> dict[str, Any]:
        _, content = service.files[name]
        return {"kind": "storage#object", "name": name, "bucket": "b", "size": str(len(content))}

    @app.post("/v1/token")
    def token():
        return {"access_token": "token-of-mine", "expires_in": 3600, "token_type": "Bearer"}

    @app.get("/v1beta1/publishers/google/models/{name}")
    def model(name: str):
        found = {"name": f"publishers/google/models/{name}"}
        return found if name in service.models else missing(name)

    @app.post("/upload/storage/v1/b/b/o")
    async def upload(request: Request):
        about, _, rest = (await request.body()).partition(b"\r\n\r\n")[2].partition(b"\r\n--")
        name = json.loads(about)["name"]
        service.files[name] = name, rest.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        return blob(name)

    @app.get("/storage/v1/b/b/o")
    def blobs(prefix: str = ""):
        return {"items": [blob(name) for name in service.files if name.startswith(prefix)]}

    @app.get("/storage/v1/b/b/o/{name:path}")
    def get_blob(name: str):
        return blob(name) if name in service.files else missing(name)

    @app.delete("/storage/v1/b/b/o/{name:path}")
    def delete_blob(name: str):
        del service.files[name]
        return Response(status_code=204)

    @app.post(f"{where}/tuningJobs")
    async def create(request: Request):
        number = len(service.jobs) + 1
        job = {
            "name": f"projects/p/locations/l/tuningJobs/{number}",
            "state": "JOB_STATE_PENDING",
            "createTime": "2096-10-02T07:06:40Z",  # its clock is not ours
            "looks": 0,
            **await request.json(),
        }
        service.jobs[str(number)] = job
        return shown(job)

    def shown(job: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in job.items() if key != "looks"}

    @app.get(f"{where}/tuningJobs")
    def jobs():
        return {"tuningJobs": [shown(one) for one in reversed(service.jobs.values())]}

    @app.get(f"{where}/tuningJobs/{{number}}")
    def job(number: str):
        if number not in service.jobs:
            return missing("job")
        found = service.jobs[number]
        found["looks"] += 1
        found["tuningJobMetadata"] = {
            "completedStepCount": str(found["looks"]),
            "completedEpochCount": "1",
        }
        if found["looks"] > service.polls:
            found |= {
                "state": "JOB_STATE_SUCCEEDED",
                "endTime": "2096-10-02T07:07:40Z",
                "tunedModel": {"endpoint": "projects/p/locations/l/endpoints/7"},
                "tuningDataStats": {
                    "supervisedTuningDataStats": {"totalBillableTokenCount": "2500"}
                },
            }
        return shown(found)

    @app.post(f"{where}/tuningJobs/{{number}}:cancel")
    def cancel(number: str):
        service.jobs[number]["state"] = "JOB_STATE_CANCELLED"
        return {}

    @app.post(f"{where}/endpoints/7:generateContent")
    async def generate(request: Request):
        service.prompts.append(await request.json())
        content = {"role": "model", "parts": [{"text": reply}]}
        used = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
        return {
            "candidates": [{"content": content, "finishReason": "STOP"}],
            "usageMetadata": used,
        }

    return service
