"""How numbers, values and lists stand in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def ranges(numbers: Iterable[int]) -> str:
    """Sorted whole numbers, with consecutive ones shortened: 0, 1, 2, 5 -> ``0-2, 5``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(
        str(p[0]) if len(p) == 1 else f"{p[0]}{'-' if len(p) > 2 else ', '}{p[-1]}" for p in parts
    )


def span(values: Iterable[int]) -> str:
    """The lowest and the highest of some numbers: ``200 to 1,000``, or one number where they are equal."""
    values = list(values)
    return " to ".join(f"{n:,}" for n in dict.fromkeys((min(values), max(values))))


def seeds(numbers: Sequence[int]) -> str:
    """``seed 3`` or ``seeds 0-4``."""
    return f"seed{'s' * (len(numbers) > 1)} {ranges(numbers)}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def shown(value: Any) -> str:
    """A value of a record: a text as it is, a whole number without decimals, anything else as JSON."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def short(value: Any) -> str:
    """The same, with hashes cut to 8 digits."""
    text = shown(value)
    return text[:8] if len(text) >= 32 and set(text) <= set("0123456789abcdef") else text
