"""The arithmetic in which features and scores are computed: the same in every process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

from baselines.training import settings

SCORING = {
    **settings.ONE_THREAD,
    "cudnn.deterministic": True,
    "cudnn.allow_tf32": False,
    **dict.fromkeys(("cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision"), "none"),
}
"""True float32 on one thread. Several threads would add numbers in another order, and round differently."""


@contextmanager
def scoring() -> Iterator[None]:
    """Within the block, use the same arithmetic in every process, however many threads it has.

    Features and scores are computed, and classifiers are trained, in such a block.
    """
    with settings.isolated(SCORING), _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    """The threads of NumPy's linear algebra, which PyTorch's settings do not reach.

    Finding them takes milliseconds, so it is done once.
    """
    return ThreadpoolController()
