"""`.json`: the plan, to read, to edit, and to execute."""

from __future__ import annotations

import json
from pathlib import Path

from sapool.catalogue.formats import register_format
from sapool.digests import json_with_digest
from sapool.model import CompiledModel
from sapool.weights.atomic import write_text


@register_format("json", suffixes=(".json",), summary="the plan", rank=1)
def write_plan(model: CompiledModel, path: str | Path) -> None:
    """Writes a model's plan."""
    write_text(path, json_with_digest(json.loads(model.plan.to_json())))
