"""What is trained: the model interface, the trainer, and one file per model."""

import gc

# PyTorch's modules make half a million objects that stay. Looking for garbage among them takes a fifth of
# the time that importing it takes, and as much again when the process ends.
_collects = gc.isenabled()
gc.disable()
import torch  # noqa: E402, F401

gc.freeze()
if _collects:
    gc.enable()
