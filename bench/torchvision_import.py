"""The import of torchvision without PyTorch's compiler.

``torchvision.ops.roi_align`` imports one function from ``torch._dynamo``, and with it the whole compiler. The
function is asked only on GPUs in deterministic mode. Without the compiler, torchvision's import takes 0.2 s
of processor time instead of 1.6 s, of about 5 s that a process needs before it computes; ``python -X
importtime -c 'import torchvision'`` shows it. Every worker imports it: pictures and torch-fidelity need it.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType

COMPILER, UTILS = "torch._dynamo", "torch._dynamo.utils"


def import_torchvision() -> None:
    """Import torchvision. Call this before anything that imports it; afterwards it costs nothing.

    Where another version needs more of the compiler, it is imported in the ordinary way.
    """
    if "torchvision" in sys.modules:
        return
    if COMPILER not in sys.modules:
        package, utils = ModuleType(COMPILER), ModuleType(UTILS)
        package.__path__ = []
        utils.is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
        sys.modules |= {COMPILER: package, UTILS: utils}
        try:
            with suppress(ImportError, AttributeError):
                import torchvision
        finally:
            del sys.modules[COMPILER], sys.modules[UTILS]
    import torchvision  # noqa: F401


def is_compile_supported(device_type: str) -> bool:
    """What torchvision asks of the compiler, which is imported with the first question."""
    from torch._dynamo import utils

    supported: bool = utils.is_compile_supported(device_type)
    return supported
