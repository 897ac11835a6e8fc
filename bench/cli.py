"""What the command lines share: flags, a TOML file with the same keys, and errors in one line."""

from __future__ import annotations

import argparse
import gc
import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

from bench.errors import UsageError, nearest, printable
from bench.execution.processes import few_collections
from bench.store.files import UnreadableError
from bench.toml import read_toml


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line that names the flag, and the nearest known one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse the flags and the file that ``--config`` names. Where both give a value, the flag wins.

        Raises:
            UsageError: a flag or key is unknown, or a value is not allowed.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        self._refuse_repeated(arguments)
        before, _ = self.parse_known_args(arguments)
        if getattr(before, "config", None) is not None:
            self.set_defaults(**self._from_file(before.config, before))
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = unknown[0].partition("=")[0]
            name = name.partition("://")[0]  # the address of a storage may hold a password
            raise UsageError(f"{name!r} is not a flag of {self.prog}{nearest(name, flags)}")
        return namespace

    def _refuse_repeated(self, arguments: Sequence[str]) -> None:
        """Refuse a list that is given twice: argparse would drop the first one."""
        given = Counter(word.partition("=")[0] for word in arguments)
        for action in self._actions:
            n = sum(given[flag] for flag in action.option_strings)
            if n > 1 and action.nargs == "+" and not isinstance(action, argparse._AppendAction):
                raise UsageError(f"{action.option_strings[0]}: given {n} times; name all values after one")

    def _from_file(self, path: Path, given: argparse.Namespace) -> dict[str, Any]:
        """The values of the file's keys. Each is parsed and checked as its flag is."""
        content = read_toml(path, "--config")
        actions = {
            action.option_strings[-1].removeprefix("--"): action
            for action in self._actions
            if action.option_strings and action.dest not in {"help", "config"}
        }
        words: list[str] = []
        named = []
        for key, value in content.items():
            name = key.replace("_", "-")
            if name not in actions:
                raise UsageError(f"--config {path}: unknown key {key!r}{nearest(name, actions)}")
            if (actions[name].nargs == 0) != isinstance(value, bool):
                kind = "true or false" if actions[name].nargs == 0 else "a value, not true or false"
                raise UsageError(f"--config {path}: {key} = {value!r} is not allowed; give {kind}")
            if value is False or self._rival_given(actions[name], given):
                continue
            try:
                own = _words(value)
            except ValueError as error:  # a hexadecimal number with too many decimal digits
                raise UsageError(f"--config {path}: {key}: {error}") from error
            if any("\0" in word for word in own):
                raise UsageError(f"--config {path}: {key!r} holds a NUL character")
            words += [f"--{name}", *own]
            named.append(actions[name].dest)
        try:
            parsed, left = self.parse_known_args(words)
        except UsageError as error:
            raise UsageError(f"--config {path}: {error}") from error
        if left:
            raise UsageError(f"--config {path}: {' '.join(left)!r} is more than a flag takes")
        return {name: getattr(parsed, name) for name in named}

    def _rival_given(self, action: argparse.Action, given: argparse.Namespace) -> bool:
        """Whether the command line has a flag that excludes this one."""
        return any(
            getattr(given, rival.dest) != rival.default
            for group in self._mutually_exclusive_groups
            if action in group._group_actions
            for rival in group._group_actions
        )


def _words(value: Any) -> list[str]:
    """A TOML value as the words of a command line."""
    match value:
        case True:
            return []
        case list():
            return [str(item) for item in value]
        case dict():
            return [f"{key}={_text(item)}" for key, item in _dotted(value).items()]
    return [str(value)]


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


# ------------------------------------------------------------------ types of values


def number(kind: Callable[[str], Any], low: float, high: float = float("inf")) -> Callable[[str], Any]:
    """An argument type: a number between low and high, both allowed."""
    words = "a whole number" if kind is int else "a number"
    bounds = f"{low:g} or more" if high == float("inf") else f"between {low:g} and {high:.12g}"

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; {words}, {bounds}")
        return value

    return parse


def word(text: str) -> str:
    """An argument type: text that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it is empty")
    return text


def path(text: str) -> Path:
    """An argument type: a path that is not empty."""
    return Path(word(text))


def setting(text: str) -> tuple[str, str, str]:
    """``MODEL.PARAM=VALUE`` as its three parts."""
    target, equals, value = text.partition("=")
    model, dot, name = target.rpartition(".")
    if not (equals and dot and model and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; write MODEL.PARAM=VALUE")
    return model, name, value


def configurations(
    settings: Iterable[tuple[str, str, str]],
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """What :func:`setting` read, by model: hyperparameters with one value, and every choice of the others."""
    given: dict[str, dict[str, dict[str, None]]] = {}
    for model, name, value in settings:
        given.setdefault(model, {}).setdefault(name, {})[value] = None
    one: dict[str, dict[str, Any]] = {}
    several: dict[str, list[dict[str, Any]]] = {}
    for model, its in given.items():
        one[model] = {name: next(iter(values)) for name, values in its.items() if len(values) == 1}
        if varied := {name: values for name, values in its.items() if len(values) > 1}:
            several[model] = [dict(zip(varied, choice, strict=True)) for choice in product(*varied.values())]
    return one, several


def label(text: str) -> tuple[str, str]:
    """``MODEL=NAME`` as its two parts."""
    model, equals, name = text.partition("=")
    if not (equals and model and name.strip()) or len(name) > MOST_OF_A_LABEL or name != printable(name):
        how = f"write MODEL=NAME, a printable name of at most {MOST_OF_A_LABEL} characters"
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; {how}")
    return model, name


MOST_OF_A_LABEL = 60


def chosen(options: Sequence[str]) -> Callable[[str], str]:
    """An argument type: one of the options. The error names the nearest one."""

    def parse(text: str) -> str:
        if text not in options:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not allowed; one of {', '.join(options)}{nearest(text, options)}"
            )
        return text

    return parse


def run_main(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code.

    A wrong request prints one line to stderr and exits with 2. A folder that cannot be read or written prints
    one line and exits with 1. SIGINT and SIGTERM, if the command does not handle them itself, exit with 130
    and 143.
    """
    few_collections()
    open_streams()
    try:
        with _signals_end_it():
            code = main()
            sys.stdout.flush()
    except UsageError as error:
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        drop_output()
        code = 1
    except OSError as error:
        drop_output()
        where = f"{error.filename}: " if error.filename else ""
        what = f"error: {where}{error.strerror or error}"
        kept = "what is finished is kept, the same command goes on"
        kept = "it was left as it is" if isinstance(error, UnreadableError) else kept
        print(printable(f"{what}; {kept}"), file=sys.stderr)
        code = 1
    gc.freeze()  # otherwise Python searches all of PyTorch's modules for garbage once more
    sys.exit(code)


def open_streams() -> None:
    """Make printing safe, whatever the streams are.

    Closed streams become the null device. Characters that a stream cannot encode are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # otherwise the next file that is opened would get this number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Discard what stdout still holds. It cannot be written, and Python would try again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError, ValueError):
        os.dup2(null, sys.stdout.fileno())
    os.close(null)


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM end the process quietly, and open contexts are closed."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    def ignored(found: sys.UnraisableHookArgs) -> None:
        if isinstance(found.exc_value, SystemExit):  # raised in a destructor, where Python only prints it
            os._exit(int(found.exc_value.code or 0))
        hook(found)

    hook, sys.unraisablehook = sys.unraisablehook, ignored
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
