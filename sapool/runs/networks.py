"""The network that a recipe names, compiled."""

from __future__ import annotations

from typing import Any

import torch

from sapool.compiler import Weights, compile, execute
from sapool.model import CompiledModel
from sapool.planning import plan_from_json
from sapool.recipes.network import NetworkRecipe
from sapool.recipes.reading import AnyRecipe
from sapool.weights.initialization import PoolsStart

USUAL_SIDE = 224
"""The side for which a detector's network is measured whose recipe leaves the size of images to its base."""


def compile_network(
    recipe: NetworkRecipe, *, weights: Weights | None = None, pools_start: PoolsStart = "backbone", **options: Any
) -> CompiledModel:
    """The network of a recipe: of its architecture, or as its plan says where it has one.

    Args:
        recipe: of either kind; says how many channels images have.
        weights: as for `sapool.compile`.
        pools_start: as for `sapool.compile`.
        options: `num_classes`, `image_size`, `features_only`, `out_indices`, in place of the plan's own.

    Raises:
        InputError, WeightsError: as `sapool.compile` and `sapool.execute`.
    """
    options["in_chans"] = recipe.model.in_chans
    if recipe.plan is None:
        return compile(recipe.architecture, dialect=recipe.dialect, weights=weights, pools_start=pools_start, **options)
    plan = plan_from_json(recipe.plan, "the recipe's plan").with_options(**options)
    return execute(plan, weights=weights, pools_start=pools_start)


def network_of(recipe: AnyRecipe, classes: int | None) -> CompiledModel:
    """A recipe's network without data; of a detector's recipe, which has no `classes`, its maps.

    Raises:
        InputError: as `compile_network`.
    """
    size = recipe.data.image_size or USUAL_SIDE
    with torch.device("meta"):
        if classes is None:
            return compile_network(recipe, features_only=True, image_size=size)
        return compile_network(recipe, num_classes=classes, image_size=size)
