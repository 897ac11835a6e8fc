"""From the flags of ``bench.tune`` to searches: one study per model, all with the same budget."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.data import datasets
from bench.identity.fingerprint import short
from bench.identity.signatures import signature
from bench.plan import RunContext, Spec, check, plan, resolve
from bench.search import FIRST_SEED, objectives
from bench.search import space as spaces
from bench.search.space import Space
from bench.search.trial_source import Recipe
from bench.store.jobs import Job, digest, slug
from bench.toml import read_toml

STEPS_SHARE = 4
"""A trial trains a quarter of the data set's usual steps, unless told otherwise."""


@dataclass(frozen=True)
class Search:
    """One model's search, as asked for."""

    study: str
    """Its name."""
    model: str
    space: Space
    request: Mapping[str, Any]
    """All that decides what the trials are. Who joins the study must ask for the same."""
    recipe: Recipe
    total: int
    """Trials."""
    full_steps: int
    """Of the retrained runs."""

    def __str__(self) -> str:
        job, recipe = self.recipe.template, self.recipe
        return (
            f"study {self.study}: {self.total} trials × {len(recipe.seeds)} seeds × {job.steps} steps of "
            f"{self.model} on {job.dataset}, {self.request['sampler']} search of {', '.join(self.space)} "
            f"by validation {' and '.join(recipe.objectives)}"
        )


def searches(args: Namespace, context: RunContext) -> list[Search]:
    """One search per model.

    Raises:
        UsageError: something asked for cannot be.
    """
    settings: dict[str, dict[str, str]] = {}
    for model, name, value in args.set:
        settings.setdefault(model, {})[name] = value
    for model in args.models:
        resolve(model, settings.get(model, {}))
        objectives.refuse(model, signature(model).card, args.objective)
    given = read_toml(args.space, "--space") if args.space else {}
    space = spaces.spaces(args.models, given, settings)
    named = args.dataset if args.image_size is None else datasets.with_size(args.dataset, args.image_size)
    dataset, why = datasets.resolve(named, data_root=context.data_root, offline=context.offline)
    if why:
        print(why, flush=True)
    usual = datasets.default_steps(dataset)
    spec = Spec(
        models=args.models,
        datasets=[dataset],
        seeds=range(FIRST_SEED, FIRST_SEED + args.seeds),
        steps=args.steps or max(1, usual // STEPS_SHARE),
        eval_every=args.eval_every,
        features=list(dict.fromkeys(args.features)),
        hyperparameters=settings,
        scored_on="val",
        precision=args.precision,
        threads=args.threads,
        draws=1,
    )
    templates = {job.model: job for job in plan(spec, context, dry_run=args.dry_run)}
    for template in templates.values():
        about = template.protocol["dataset"]
        points, stacked = "points" in about, "channels" in about
        extractors = template.protocol["extractors"]
        objectives.refuse_features(args.objective, extractors, points=points, stacked=stacked)
    for model, template in {} if args.dry_run else templates.items():
        for end in spaces.ends(space[model]):  # one that cannot be built fails here, not after hours
            values = resolve(model, {**template.hyperparameters, **end})
            check(model, values, template.protocol["dataset"], "--space")
    full_steps = args.retrain_steps or args.steps or usual
    return [
        _search(args, template, space[model], settings.get(model, {}), context, full_steps)
        for model, template in templates.items()
    ]


def _search(
    args: Namespace,
    template: Job,
    space: Space,
    fixed: Mapping[str, str],
    context: RunContext,
    full_steps: int,
) -> Search:
    """The search of the model of this run."""
    model, seeds = template.model, range(FIRST_SEED, FIRST_SEED + args.seeds)
    request = {
        "model": model,
        "dataset": template.dataset,
        "steps": template.steps,
        "eval_every": template.eval_every,
        "seeds": list(seeds),
        "objectives": args.objective,
        "sampler": args.sampler,
        "sampler_seed": args.sampler_seed,
        "pruner": args.pruner or ("median" if len(args.objective) == 1 else "none"),
        "space": spaces.describe(space),
        "fixed": {name: resolve(model, fixed)[name] for name in fixed},
        "protocol": template.protocol,
        "code": short({**template.code["model"], **template.code["training"]}),
    }
    usual_name = f"{slug(model)}-{slug(template.dataset)}-{digest(request)}"
    name = args.study or usual_name
    recipe = Recipe(
        folder=context.out / "studies" / slug(name),
        template=template,
        fixed=fixed,
        seeds=seeds,
        objectives=args.objective,
    )
    total = args.trials if args.sampler != "grid" else min(args.trials, len(spaces.grid(space)))
    return Search(name, model, space, request, recipe, total, full_steps)
