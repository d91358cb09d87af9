"""Channel pruning: torch-pruning's dependency graph chooses what goes, and the pools follow the maps that they pool."""

from sapool.prune.search import IMPORTANCES, Pruned, prune

__all__ = ["IMPORTANCES", "Pruned", "prune"]
