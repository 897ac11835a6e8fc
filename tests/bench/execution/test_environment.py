"""What a record says of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch


def described(**variables: str) -> Any:
    """By a fresh process with these variables."""
    code = (
        "import json; from bench.execution import environment; print(json.dumps(environment.describe('cpu')))"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ATEN_", "ONEDNN_"))}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_instruction_set_and_what_narrows_it_are_recorded() -> None:
    plain = described()
    assert plain["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert (plain["aten_cpu_capability"], plain["onednn_max_cpu_isa"]) == (None, None)
    narrowed = described(ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41")
    assert narrowed["cpu_capability"] == "DEFAULT"
    assert (narrowed["aten_cpu_capability"], narrowed["onednn_max_cpu_isa"]) == ("default", "SSE41")
    when = datetime.fromisoformat(plain["time"])
    assert when.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=10)
