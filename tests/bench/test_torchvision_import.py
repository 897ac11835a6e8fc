"""torchvision is imported without PyTorch's compiler, and loses nothing by it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from types import ModuleType
from bench.torchvision_import import import_torchvision
import_torchvision()
from torchvision.ops.roi_align import is_compile_supported
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "sympy"))]
compiler, utils = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")
compiler.utils, utils.is_compile_supported = utils, lambda device: device == "cpu"
sys.modules |= {"torch._dynamo": compiler, "torch._dynamo.utils": utils}
assert [is_compile_supported(device) for device in ("cpu", "cuda")] == [True, False]
"""


@pytest.mark.slow
def test_the_compiler_is_imported_when_it_is_asked() -> None:
    """If this fails with a new torchvision: look whether the module is needed still."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
