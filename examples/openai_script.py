"""A script as it is written for OpenAI's service: upload, job, events, an answer.

OPENAI_BASE_URL=http://127.0.0.1:8001/v1 python examples/openai_script.py FILE MODEL
"""

import sys
import time

from openai import OpenAI

client = OpenAI()
with open(sys.argv[1], "rb") as rows:
    file = client.files.create(file=rows, purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    model=sys.argv[2],
    training_file=file.id,
    seed=1,
    method={
        "type": "supervised",
        "supervised": {
            "hyperparameters": {
                "n_epochs": 3,
                "batch_size": 16,
                "learning_rate_multiplier": 20,
            }
        },
    },
)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(1)
    job = client.fine_tuning.jobs.retrieve(job.id)
for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
    print(event.message)
if job.fine_tuned_model is None:
    sys.exit(job.error.message)
print(f"{job.fine_tuned_model}, {job.trained_tokens} tokens")
reply = client.chat.completions.create(
    model=job.fine_tuned_model,
    messages=[{"role": "user", "content": "What is AI?"}],
    temperature=0,
)
print(reply.choices[0].message.content)
