"""Made-up run folders of schema 1, for tests of what reads them. The numbers mean nothing.

``study(root)`` writes a whole comparison; ``run(root, ...)`` one run, any field of whose record can be
replaced by its dotted name: ``run(root, fields={"protocol.n_fake": 100})``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.store.jobs import digest, run_folder
from bench.store.records import SCHEMA, sealed

Rng = np.random.Generator

FLOOR_FID = {"classifier": 2.0, "inception-v3-compat": 1.5}
"""The floor's FID per extractor; all other made-up scores follow from a run's FID."""

CRITICS = {"wgan", "wgan_gp"}
"""Models whose discriminator has no threshold."""


def scores(fid: float, extractor: str, rng: Rng, *, labelled: bool = True) -> dict[str, float]:
    """Scores that move together as real ones do: a larger FID is worse in everything."""
    quality = float(np.exp(-fid / 60))
    found = {
        "fid": fid,
        "isc_mean": 1 + 7 * quality + rng.normal(0, 0.05),
        "isc_std": abs(rng.normal(0.1, 0.02)),
        "kid_mean": max(0.0, fid * 8e-4 + rng.normal(0, 2e-4)),
        "kid_std": abs(rng.normal(1e-3, 1e-4)),
        "precision": float(np.clip(quality + rng.normal(0, 0.02), 0, 1)),
        "recall": float(np.clip(quality - 0.2 + rng.normal(0, 0.02), 0, 1)),
    }
    if labelled and extractor == "classifier":
        found |= {"modes": float(10 - int(fid > 60) - int(fid > 80)), "mode_kl": fid / 400}
    return found


def judged(balanced: float, rng: Rng) -> dict[str, float]:
    """D accuracy (real, fake, balanced)."""
    tilt = rng.normal(0, 0.02)
    return {"real": balanced + tilt, "fake": balanced - tilt, "balanced": balanced}


def history(folder: Path, steps: int, end: int, rng: Rng, *, threshold: bool) -> None:
    """history.csv: one row per window of max(1, steps // 1000) iterations, up to ``end``."""
    window = max(1, steps // 1000)
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        accuracy = ["d_acc_real", "d_acc_fake"] if threshold else []
        writer = csv.writer(file)
        writer.writerow(["step", "d_loss", *accuracy, "g_loss"])
        for step in range(window, end + 1, window):
            fade = float(np.exp(-3 * step / steps))
            row = [0.66 - 0.3 * fade + rng.normal(0, 0.02)]
            row += [0.6 + 0.35 * fade + rng.normal(0, 0.03) for _ in accuracy]
            row += [0.9 + 1.5 * fade + rng.normal(0, 0.05)]
            writer.writerow([step, *(f"{value:.6g}" for value in row)])


def samples(path: Path, fid: float, rng: Rng) -> None:
    """An image grid of the right size: blobs, the noisier the worse the score."""
    y, x = np.mgrid[0:8, 0:8]
    blobs = [
        np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4) + rng.normal(0, fid / 150, (8, 8))
        for cx, cy in rng.uniform(2, 5, size=(64, 2))
    ]
    tiles = np.pad(np.stack(blobs), ((0, 0), (1, 1), (1, 1))).reshape(8, 8, 10, 10)
    grid = (np.clip(tiles, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 1, 3).reshape(80, 80)
    Image.fromarray(grid).resize((320, 320), Image.Resampling.NEAREST).save(path)


def run(
    root: Path,
    *,
    model: str = "vanilla",
    seed: int = 0,
    dataset: str = "digits",
    task: str = "generation",
    steps: int = 400,
    status: str = "finished",
    fid: float = 30.0,
    extractors: Iterable[str] = ("classifier",),
    hyperparameters: Mapping[str, Any] | None = None,
    n_evals: int = 0,
    select: str = "final",
    conditional: bool = False,
    images: bool = True,
    n_draws: int = 0,
    fields: Mapping[str, Any] | None = None,
) -> Path:
    """Write one run folder and return it. ``fields`` replaces entries by dotted name before the hash."""
    rng = np.random.default_rng([seed, int(digest([model, dataset, fid]), 16)])
    finished = status == "finished"
    restoration = task == "super-resolution"
    threshold = model not in CRITICS
    balanced = float(np.clip(0.5 + fid / 300, 0.5, 0.95))
    names = ["super-resolution"] if restoration else list(extractors)

    def measured(value: float) -> dict[str, Any]:
        if restoration:
            return {
                "super-resolution": {
                    "psnr": 30 - value / 10 + rng.normal(0, 0.1),
                    "ssim": 0.95 - value / 400,
                    "psnr_bicubic": 24.1,
                    "ssim_bicubic": 0.81,
                }
            }
        found = {name: scores(value, name, rng) for name in names}
        if conditional:
            found["classifier"] |= {"cond_accuracy": float(np.exp(-value / 200)), "class_fid": value * 1.8}
        return found

    eval_steps = [steps * (k + 1) // n_evals for k in range(n_evals)] if finished else []
    evals = [
        {
            "step": step,
            "scored_on": "val" if select == "best" else "test",
            "metrics": measured(fid * (1 + 3 * float(np.exp(-4 * step / steps)))),
            "d_accuracy": judged(balanced, rng),
            "train_s": 8.0 * step / steps,
        }
        for step in eval_steps
    ]
    best = None
    if select == "best" and evals:
        best = {
            "step": eval_steps[-2 if n_evals > 1 else -1],
            "val": measured(fid * 0.95),
            "metrics": measured(fid * 0.97),
        }
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "id": "",
        "model": model,
        "task": task,
        "dataset": dataset,
        "seed": seed,
        "steps": steps,
        "status": status,
        "reason": None if finished else "d_loss is not finite at step 151",
        "attempts": 1,
        "hyperparameters": {"latent_dim": 100, "g_widths": [256, 512, 1024], "lr": 2e-4, "batch_size": 128}
        | dict(hyperparameters or {}),
        "parameters": {
            "gen": {"trainable": 755_776, "total": 759_360},
            "disc": {"trainable": 164_865, "total": 164_865},
        },
        "protocol": {
            "dataset": {
                "name": dataset,
                "sha256": digest(dataset) * 5,
                "n_train": 1437,
                "n_val": 0,
                "n_test": 360,
                "n_classes": 10,
                "shape": [1, 8, 8],
            },
            "scored_on": "test",
            "n_fake": 360,
            "n_real": 360,
            "select": select,
            "extractors": {name: {"sha256": digest([name, "weights"]) * 5} for name in names},
            "kid_subset_size": 360,
            "kid_subsets": 100,
            "isc_splits": 10,
            "prc_k": 3,
            "d_acc_tolerance": 0.15,
            "version": "1",
        },
        "environment": {
            "python": "3.12.3",
            "torch": "2.11.0",
            "torchvision": "0.26.0",
            "torch_fidelity": "0.4.0",
            "numpy": "2.3.1",
            "platform": "Linux-6.1-x86_64",
            "cpu": "A made-up CPU",
            "device": "cpu",
            "matmul": "highest",
            "threads": 1,
            "commit": "0" * 40,
            "host": "nowhere",
        },
        "cost": {
            "train_s": 8.0 + rng.normal(0, 0.3),
            "eval_s": 1.5,
            "device_s": 9.5,
            "stack": 1,
            "steps_per_s": 50.0,
            "peak_memory_mb": 512.0,
            "energy_j": None,
        },
        "metrics": measured(fid) if finished else {},
        "floor": {name: scores(FLOOR_FID[name], name, np.random.default_rng(0)) for name in names}
        if not restoration
        else {},
        "best": best,
        "evals": evals,
        "d_accuracy": {
            "train": judged(balanced, rng) if threshold else None,
            "heldout": judged(balanced, rng) if finished else None,
            "near_half": finished and abs(balanced - 0.5) < 0.15,
            "near_half_since": steps // 3 if finished and abs(balanced - 0.5) < 0.15 else None,
            "threshold": 0.0 if threshold else "calibrated",
        },
    }
    if n_draws:
        draws = [fid, *(fid + rng.normal(0, 0.3, n_draws - 1))]
        record["draws"] = {name: {"fid": draws} for name in names}
    for name, value in (fields or {}).items():
        *parents, last = name.split(".")
        inner = record
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    record["id"] = digest(
        [record[key] for key in ("model", "task", "dataset", "steps", "hyperparameters", "protocol")]
        + [record.get("code")]
    )
    folder = run_folder(root, model, dataset, record["id"], seed)
    folder.mkdir(parents=True, exist_ok=True)
    history(folder, steps, steps if finished else steps * 3 // 8, rng, threshold=threshold)
    if images and finished:
        samples(folder / "samples.png", fid, rng)
        for step in eval_steps:
            samples(folder / f"samples-{step:06d}.png", fid * (1 + 3 * steps / step / 8), rng)
    (folder / "run.json").write_text(json.dumps(sealed(record), indent=1), encoding="utf-8")
    return folder


def study(
    root: Path,
    models: Mapping[str, float] | None = None,
    *,
    seeds: Iterable[int] = range(5),
    spread: float = 2.0,
    **options: Any,
) -> list[Path]:
    """Runs of several models (name -> mean FID) over the same seeds; ``options`` as for :func:`run`."""
    folders = []
    for model, mean in (models or {"vanilla": 42.0, "dcgan": 21.0, "wgan_gp": 23.0}).items():
        for seed in seeds:
            rng = np.random.default_rng([seed, int(digest(model), 16)])
            fid = max(1.0, mean + float(rng.normal(0, spread)))
            folders.append(run(root, model=model, seed=seed, fid=fid, **options))
    return folders
