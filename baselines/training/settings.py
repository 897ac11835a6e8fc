"""Process-wide state that changes numbers: PyTorch's settings and the global random streams.

A model file may change it when it is imported, built or trained. The next model in the same process would
then give other numbers than it gives alone. So the settings are restored, and the model that changed them is
named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Setting:
    """One setting of the process."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def _of(holder: Any, attribute: str, name: str) -> Setting:
    return Setting(name, lambda: getattr(holder, attribute), lambda value: setattr(holder, attribute, value))


def _default_device() -> str | None:
    now = str(torch.get_default_device())
    return None if now == "cpu" else now


def _autocast(kind: str) -> tuple[Setting, Setting]:
    return (
        Setting(
            f"autocast on {kind}",
            lambda: torch.is_autocast_enabled(kind),
            lambda value: torch.set_autocast_enabled(kind, value),
        ),
        Setting(
            f"autocast's dtype on {kind}",
            lambda: torch.get_autocast_dtype(kind),
            lambda value: torch.set_autocast_dtype(kind, value),
        ),
    )


def _nnpack() -> bool:
    (now,) = torch.backends.nnpack.set_flags(True)  # type: ignore[no-untyped-call]
    torch.backends.nnpack.set_flags(now)  # type: ignore[no-untyped-call]
    return bool(now)


def _flushes_denormals() -> bool:
    return bool((torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0).item() == 0)


def _put_anomaly(value: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*value)


_backends = torch.backends

SETTINGS: tuple[Setting, ...] = (
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("the default device", _default_device, torch.set_default_device),
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting(
        "anomaly mode",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        _put_anomaly,
    ),
    Setting(
        "deterministic algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    _of(torch.utils.deterministic, "fill_uninitialized_memory", "filling of uninitialized memory"),
    Setting("flushing of denormals", _flushes_denormals, torch.set_flush_denormal),
    *_autocast("cpu"),
    *_autocast("cuda"),
    Setting("autocast's cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    # General settings first: a setting that is unset takes its value from a more general one.
    _of(_backends, "fp32_precision", "torch.backends.fp32_precision"),
    _of(_backends.mkldnn, "fp32_precision", "mkldnn.fp32_precision"),
    _of(_backends.cudnn, "fp32_precision", "cudnn.fp32_precision"),
    Setting(
        "float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    _of(_backends.cudnn, "allow_tf32", "cudnn.allow_tf32"),
    *(
        _of(getattr(backend, part), "fp32_precision", f"{name}.{part}.fp32_precision")
        for name, backend, parts in (
            ("mkldnn", _backends.mkldnn, ("matmul", "conv", "rnn")),
            ("cuda", _backends.cuda, ("matmul",)),
            ("cudnn", _backends.cudnn, ("conv", "rnn")),
        )
        for part in parts
    ),
    _of(_backends.mkldnn, "enabled", "mkldnn.enabled"),
    _of(_backends.mkldnn, "deterministic", "mkldnn.deterministic"),
    Setting("nnpack.enabled", _nnpack, _backends.nnpack.set_flags),
    _of(_backends.cudnn, "enabled", "cudnn.enabled"),
    _of(_backends.cudnn, "benchmark", "cudnn.benchmark"),
    _of(_backends.cudnn, "deterministic", "cudnn.deterministic"),
    _of(
        _backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", "reduced precision of fp16 products"
    ),
    _of(
        _backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", "reduced precision of bf16 products"
    ),
    Setting("flash attention", _backends.cuda.flash_sdp_enabled, _backends.cuda.enable_flash_sdp),
    Setting(
        "memory-efficient attention",
        _backends.cuda.mem_efficient_sdp_enabled,
        _backends.cuda.enable_mem_efficient_sdp,
    ),
    Setting("plain attention", _backends.cuda.math_sdp_enabled, _backends.cuda.enable_math_sdp),
    Setting("cudnn's attention", _backends.cuda.cudnn_sdp_enabled, _backends.cuda.enable_cudnn_sdp),
)

Values = Mapping[str, Any]
MIXED = "mixed"
"""Value of a setting that combines several others, where these differ. Each of them is in the list, too."""


def read() -> Values:
    """The current value of every setting."""
    return {setting.name: _value(setting) for setting in SETTINGS}


def _value(setting: Setting) -> Any:
    try:
        return setting.get()
    except RuntimeError:  # PyTorch raises where its old and its new switches contradict each other
        return MIXED


def put(values: Values) -> list[str]:
    """Set all settings. Returns the ones that were different: ``grad mode is False, not True``."""
    found, changed = read(), []
    for setting in SETTINGS:
        now, wanted = _value(setting), values[setting.name]
        if now != wanted:
            if wanted != MIXED:
                setting.put(wanted)
            if now == found[setting.name]:  # else restoring another setting changed this one
                changed.append(f"{setting.name} is {now}, not {wanted}")
    return changed


FRESH = read()
"""The values before any model was imported: the registry imports this module before it imports a model."""


ONE_THREAD = {**FRESH, "the number of threads": 1}


def start_afresh() -> None:
    """Restore the settings of a fresh process, and seed the global random streams with 0."""
    put(FRESH)
    seed()


def seed() -> None:
    """Seed the global random streams with 0."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def streams() -> dict[str, bytes]:
    """The states of the global random streams, by the library that they belong to."""
    numpy_state: Any = np.random.get_state()
    return {
        "PyTorch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": b"%d %s" % (numpy_state[2], numpy_state[1].tobytes()),
        "Python": repr(random.getstate()).encode(),
    }


@contextmanager
def kept() -> Iterator[None]:
    """Restore all settings when the block ends."""
    before = read()
    try:
        yield
    finally:
        put(before)


@contextmanager
def isolated(values: Values = ONE_THREAD) -> Iterator[list[str]]:
    """Run a block with these settings and with global random streams seeded with 0; then restore everything.

    The list is filled when the block ends: it names the settings that the block changed.
    """
    before = read()
    streams = torch.get_rng_state(), np.random.get_state(), random.getstate()
    changed: list[str] = []
    put(values)
    seed()
    try:
        yield changed
    finally:
        changed += put(values)
        put(before)
        torch.set_rng_state(streams[0])
        np.random.set_state(streams[1])
        random.setstate(streams[2])
