"""Training classifiers: recipes in, runs out. The loop, loggers and checkpoints are Lightning's.

Raises (on import): MissingExtraError, the packages of the extra `train` aren't installed.
"""

from sapool.errors import require_extra

_PACKAGES = ("lightning", "torchmetrics", "sklearn", "filelock", "matplotlib", "tensorboard", "pytorch_grad_cam")
require_extra("train", "training", _PACKAGES)
