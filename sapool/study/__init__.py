"""Several runs side by side.

Raises (on import): MissingExtraError, the packages of the extra `train` aren't installed.
"""

from sapool.errors import require_extra

require_extra("train", "drawing curves", ("matplotlib",))
