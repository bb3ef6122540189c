"""Python's collector of garbage, kept out of where there is none: it took a quarter of the imports.

python -c "import gc; gc.disable(); import transformers.trainer, mlflow.pyfunc"
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """Collect nothing meanwhile, while modules are imported and data read, which all stays."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
