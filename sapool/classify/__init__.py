"""Training classifiers: recipes in, runs out. The loop, loggers and checkpoints are Lightning's."""
