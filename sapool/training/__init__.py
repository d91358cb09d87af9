"""Training by Lightning, whatever the task: its trainer, callbacks, checkpoints, optimizers, and what a run logged.

Raises (on import): MissingExtraError, the packages of the extra `train` aren't installed.
"""

from sapool.errors import require_extra

_PACKAGES = ("lightning", "torchmetrics", "sklearn", "filelock", "matplotlib", "tensorboard", "pytorch_grad_cam")
require_extra("train", "training", _PACKAGES)
