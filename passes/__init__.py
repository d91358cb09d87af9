"""The middle of the compiler: a plan carried out on a traced backbone."""

from __future__ import annotations

from torch import fx

from sapool.ir.plan import Plan
from sapool.passes.adopt_dialect import adopt_dialect
from sapool.passes.cancel_attention import cancel_attention
from sapool.passes.clean_up import clean_up
from sapool.passes.driver import Driver
from sapool.passes.fold_norms import fold_norms
from sapool.passes.insert_pools import insert_pools, insert_prepool
from sapool.passes.make_dynamic import make_dynamic
from sapool.passes.record import Log
from sapool.passes.restride import restride
from sapool.passes.select_outputs import mark_features, select_outputs


def rewrite(module: fx.GraphModule, plan: Plan) -> Log:
    """Rewrites a traced backbone in place as its plan says; returns what was done and what was left alone."""
    run = Driver(module, plan)
    mark_features(module, plan)
    run(adopt_dialect)
    run(insert_prepool)
    run(insert_pools)
    run(restride)
    run(make_dynamic)
    run(select_outputs)
    run(clean_up)
    return run.log


def tune(module: fx.GraphModule, plan: Plan) -> Log:
    """Rewrites a compiled graph in place for inference, computing the same; returns what was done."""
    run = Driver(module, plan)
    run(cancel_attention)
    run(fold_norms)
    run(clean_up)
    return run.log
