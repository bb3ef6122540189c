"""What a worker of our own runs imports, begun before anything else that a search does."""

from pipeline.search.workers import fork_server

# By their names: this process itself may need none of them.
MODULES = (
    "accelerate",
    "datasets",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.metrics",
    "transformers",
    "pipeline.data",
    "pipeline.evaluation.figures",
    "pipeline.evaluation.metrics",
    "pipeline.models.adapters",
    "pipeline.models.digests",
    "pipeline.models.weights",
    "pipeline.jobs.trial",
    "pipeline.search.workers.worker",
    "pipeline.serving.saved",
    "pipeline.tracking.mlmodel",
    "pipeline.training.determinism",
    "pipeline.training.trainer",
)


def warm_up() -> None:
    """Have what workers need imported while this process composes and checks the search."""
    fork_server.warm_up(MODULES)
