"""Views of studies, as MLflow's page reads them."""

import base64
import json
import zlib
from typing import Any


def state_in(tag: str) -> dict[str, Any]:
    """Return the page's state in an experiment's tag."""
    state = json.loads(tag)["state"]
    text = zlib.decompress(base64.b64decode(state.removeprefix("deflate;")))
    return dict(json.loads(text))
