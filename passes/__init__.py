"""The middle of the compiler: a plan carried out on a traced backbone, one pass after the other."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from sapool.ir.plan import Plan
from sapool.passes.adapt_input import adapt_input, has_channels
from sapool.passes.adopt_dialect import adopt_dialect
from sapool.passes.clean_up import clean_up
from sapool.passes.driver import Driver, Watcher
from sapool.passes.export.attention import split_attention
from sapool.passes.export.dynamic import mix_outputs
from sapool.passes.export.gaussian import square_deviations
from sapool.passes.export.importance import approximate_exponential
from sapool.passes.export.soft import divide_by_logistics
from sapool.passes.filter_strides import filter_strides, filters_stand
from sapool.passes.inference.cancel_attention import cancel_attention
from sapool.passes.inference.fold_norms import fold_norms
from sapool.passes.inference.fold_projections import fold_projections
from sapool.passes.insert_pools import insert_pools, insert_prepool, prepool_stands, stages_pool
from sapool.passes.make_dynamic import convolutions_are_dynamic, make_dynamic
from sapool.passes.record import Log
from sapool.passes.restride import restride, strides_are_set
from sapool.passes.select_outputs import expose_features, outputs_are_selected, select_outputs


def rewrite(module: fx.GraphModule, plan: Plan, *, without: Collection[str] = (), watch: Watcher | None = None) -> Log:
    """Rewrites a traced backbone in place as its plan says; returns what was done and what was left alone.

    The module's code is that of the new graph after the last pass only. Each pass stands with what holds from then on,
    which is verified after every later pass too.
    """
    run = Driver(module, plan, without=without, watch=watch)
    run(expose_features)
    run(adapt_input, has_channels)
    run(adopt_dialect)
    run(insert_prepool, prepool_stands)
    run(insert_pools, stages_pool)
    run(restride, strides_are_set)
    run(filter_strides, filters_stand)
    run(make_dynamic, convolutions_are_dynamic)
    run(select_outputs, outputs_are_selected)
    run(clean_up)
    return run.finish()


def rewrite_for_inference(module: fx.GraphModule, plan: Plan, *, without: Collection[str] = ()) -> Log:
    """Rewrites a compiled graph in place for inference, computing the same; returns what was done."""
    run = Driver(module, plan, without=without)
    run(cancel_attention)
    run(fold_norms)
    run(fold_projections)
    run(clean_up)
    return run.finish()


def rewrite_for_export(module: fx.GraphModule, plan: Plan, *, without: Collection[str] = ()) -> Log:
    """Rewrites an optimized graph in place for other runtimes, computing the same; returns what was done."""
    run = Driver(module, plan, without=without)
    run(mix_outputs)
    run(clean_up)
    return run.finish()


def rewrite_for_microcontroller(
    module: fx.GraphModule, plan: Plan, *, integer: bool = True, without: Collection[str] = ()
) -> Log:
    """Rewrites an optimized graph in place for TensorFlow Lite Micro; returns what was done.

    It computes the same, save that with `integer` exponentials are what int8 can do, within 0.0012.
    """
    run = Driver(module, plan, without=without)
    run(split_attention)
    run(square_deviations)
    if integer:
        run(approximate_exponential)
        run(divide_by_logistics)
    run(mix_outputs)
    run(clean_up)
    return run.finish()
