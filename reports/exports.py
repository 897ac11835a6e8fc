"""Runs as other tools take them: scalars, pictures, hyperparameters, scores; and a writer for each tool."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store.files import read_bytes
from bench.store.jobs import slug
from bench.store.rows import flat
from reports import frames, private
from reports.folder import is_file
from reports.labels import labels

Scalars = dict[int, dict[str, float]]
"""Step -> name (``train/d_loss``) -> value."""


@dataclass(frozen=True)
class Export:
    """What other tools are given of a run."""

    name: str
    """``vanilla/mnist/seed-0``; with the configuration's id where several have the same name."""
    key: str
    """The same for the same run, in every export."""
    config: Mapping[str, Any]
    """Model, data set, seed, steps, status and, below ``hyperparameters.``, all hyperparameters."""
    scalars: Scalars
    """``train/`` what the losses logged, ``eval/`` the scores along training."""
    scores: Mapping[str, float]
    """``final/``: the scores of the record."""
    pictures: Mapping[int, Path]
    """Step -> a grid of samples, as PNG."""
    time: float
    """When it was recorded, in seconds since 1970; 0 where the record does not say."""


def exports(runs: pd.DataFrame, roots: Sequence[Path]) -> list[Export]:
    """The runs of :func:`reports.load`, without names of machines and absolute paths."""
    open_runs = private.without_machine(runs, private.hider(runs, roots))
    history = dict(iter(frames.history(open_runs).groupby(["id", "seed"])))
    evals = dict(iter(frames.evals(open_runs).groupby(["id", "seed"])))
    names = _names(open_runs)
    found = []
    for run in open_runs.to_dict("records"):
        record, key = run["record"], (run["id"], run["seed"])
        scalars: Scalars = {}
        _add(scalars, "train", history.get(key))
        _add(scalars, "eval", evals.get(key))
        final = flat(record.get("metrics") or {}, "final/")
        about = {name: record[name] for name in ("model", "dataset", "seed", "steps", "status", "id")}
        found.append(
            Export(
                name=names[run["id"]] + f"/seed-{run['seed']}",
                key=f"{run['id']}-{run['seed']}",
                config=about | flat(record.get("hyperparameters") or {}, "hyperparameters."),
                scalars=dict(sorted(scalars.items())),
                scores={name.replace(".", "/"): float(value) for name, value in final.items()},
                pictures=_pictures(Path(run["folder"]), int(run["steps"])),
                time=_time((record.get("environment") or {}).get("time")),
            )
        )
    return found


def _names(runs: pd.DataFrame) -> dict[str, str]:
    """Configuration -> its name, ``vanilla/mnist``, as one path; each once."""
    called = labels(runs)
    datasets = dict(zip(runs["id"], runs["dataset"], strict=True))
    names = {run_id: f"{slug(name)}/{slug(datasets[run_id])}" for run_id, name in called.items()}
    often = Counter(names.values())
    return {run_id: name if often[name] == 1 else f"{name}-{run_id}" for run_id, name in names.items()}


def _add(scalars: Scalars, prefix: str, frame: pd.DataFrame | None) -> None:
    """Add the numbers of a frame, by step."""
    if frame is None:
        return
    numbers = frame.drop(columns=[*frames.RUN, "scored_on", "step"], errors="ignore")
    names = [f"{prefix}/{str(name).removeprefix('metrics.').replace('.', '/')}" for name in numbers]
    for step, row in zip(frame["step"], numbers.to_numpy(dtype=float), strict=True):
        known = {name: float(value) for name, value in zip(names, row, strict=True) if math.isfinite(value)}
        scalars.setdefault(int(step), {}).update(known)


def _pictures(folder: Path, steps: int) -> dict[int, Path]:
    """The sample grids of a run by step."""
    found = {
        int(step): path
        for path in folder.glob("samples-*.png")
        if (step := path.stem.removeprefix("samples-")).isdecimal()
    }
    if is_file(folder / "samples.png"):
        found[steps] = folder / "samples.png"
    return {step: path for step, path in sorted(found.items()) if is_file(path)}


def _time(text: Any) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return 0.0


def _plain(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """The values as words and numbers: tools compare and filter by them."""
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}


# ------------------------------------------------------------------ the tools


def to_tensorboard(runs: Sequence[Export], where: str) -> None:
    """An event file for each run, in ``where/<name>``; hyperparameters and scores for the HPARAMS tab."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.record_writer import RecordWriter

    for run in runs:
        last = max([int(run.config["steps"]), *run.scalars])
        events = [Event(wall_time=run.time, file_version="brain.Event:2")]
        summaries = [
            (
                step,
                Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in row.items()]),
            )
            for step, row in [*run.scalars.items(), (last, run.scores)]
        ]
        for step, path in run.pictures.items():
            picture = Summary.Image(encoded_image_string=read_bytes(path))
            summaries.append((step, Summary(value=[Summary.Value(tag="samples", image=picture)])))
        summaries.append((0, hparams_pb(_plain(run.config), trial_id=run.key, start_time_secs=run.time)))
        events += [Event(wall_time=run.time, step=step, summary=summary) for step, summary in summaries]
        folder = Path(where) / run.name
        folder.mkdir(parents=True)
        with (folder / "events.out.tfevents.gan-bench").open("wb") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())


def to_wandb(runs: Sequence[Export], where: str) -> None:
    """A run of Weights & Biases for each run, in the project ``where``, with :attr:`Export.key` as its id."""
    import wandb

    for run in runs:
        with wandb.init(project=where, name=run.name, id=run.key, config=dict(run.config)) as target:
            for step in sorted({*run.scalars, *run.pictures}):
                row: dict[str, Any] = dict(run.scalars.get(step, {}))
                if step in run.pictures:
                    row["samples"] = wandb.Image(str(run.pictures[step]))
                target.log(row, step=step)
            target.summary.update(dict(run.scores))


def to_trackio(runs: Sequence[Export], where: str) -> None:
    """A run of Trackio for each run, in the project ``where``."""
    import trackio

    for run in runs:
        trackio.init(
            project=where, name=run.name, config=_plain(run.config), auto_log_cpu=False, auto_log_gpu=False
        )
        last = max([int(run.config["steps"]), *run.scalars])
        for step in sorted({*run.scalars, *run.pictures, last}):
            row: dict[str, Any] = dict(run.scalars.get(step, {}))
            if step in run.pictures:
                row["samples"] = trackio.Image(str(run.pictures[step]))
            trackio.log(row | (dict(run.scores) if step == last else {}), step=step)
        trackio.finish()
