"""Fine-tune language models and search their hyperparameters: the Python interface.

    import tunewright

    run = tunewright.train(["model=minilm", "data=tweets", "data.max_train_samples=512"])
    study = tunewright.sweep("demo")

See `pipeline.api` for what there is, docs/python.md for how to use it.
"""

from pipeline.api import *  # noqa: F403
from pipeline.api import __all__ as __all__
