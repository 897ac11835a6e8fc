"""The training loop: a stack of seeds of one model, trained together.

On a GPU a stack holds many seeds. On a CPU it holds one, because stacking is slower there. The numbers of a
seed and its ``state_dict`` do not depend on its stack, except for the order of floating-point sums.

S seeds, K iterations in a chunk, U updates in an iteration, B examples in a batch. A lane is one seed's slice
of the stack.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.gan import Gan, Nets, Optimizer, Update
from baselines.training import settings
from baselines.training.average import Average, generators
from baselines.training.capture import Captured
from baselines.training.decay import Schedule
from baselines.training.lanes import differing
from baselines.training.optim import make_grouped
from baselines.training.step import BoundNet, DataBatch, Tensors, loss_function
from baselines.training.streams import Stream, derive

State = dict[str, Any]


class Trainer:
    """Trains a stack of seeds: builds the networks, advances them, and saves and restores their state.

    Args:
        gan: the model.
        images: the training set (N, C, H, W), uint8, or float32 coordinates of points (N, 2, 1, 1), on the
            device that trains.
        labels: (N,) int64 on the same device, or ``None``.
        seeds: one for each lane.
        lanes: the model of each lane, if they differ in numbers such as a learning rate (``lanes.py``).
        capture: on a GPU, record one iteration as a CUDA graph and replay it.
        per_example: how many of the images make one example, side by side along the channels. Each is drawn
            on its own.
        bf16: networks compute in bfloat16 in training. Weights, losses and optimizers stay float32.
        steps: the planned number of iterations, over which learning rates with a ``decay`` fall.
    """

    def __init__(
        self,
        gan: Gan,
        images: Tensor,
        labels: Tensor | None,
        seeds: Sequence[int],
        *,
        lanes: Sequence[Gan] = (),
        capture: bool = True,
        per_example: int = 1,
        bf16: bool = False,
        steps: int | None = None,
    ) -> None:
        self.gan, self.seeds, self.device = gan, tuple(seeds), images.device
        self.stacked = len(seeds) > 1
        self.capture = capture and self.device.type == "cuda"
        gans = tuple(lanes) or (gan,) * len(seeds)
        built = [build(lane, seed, self.device) for lane, seed in zip(gans, seeds, strict=True)]
        self.modules = {name: (net.train(), copy.deepcopy(net).eval()) for name, net in built[0].items()}
        self.params: Tensors = {}
        self.buffers: Tensors = {}
        self._stack_tensors(built)
        self.groups: dict[str, list[list[Tensor]]] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedule = self._optimize(gans, steps)
        self.average: Average | None = None
        self.losses = [
            loss_function(update.loss, self.modules, images, labels, stacked=self.stacked, bf16=bf16)
            for update in gans[0].updates
        ]
        self.numbers = [
            differing([lane.updates[u].loss for lane in gans], self.device) for u in range(len(gan.updates))
        ]
        self.tensors = [self._seen_by(update) for update in gan.updates]
        self.streams = [
            Stream(
                seed,
                n_examples=len(images),
                batch_size=gan.batch_size,
                n_updates=len(gan.updates),
                noise=gan.noise,
                device=self.device,
                per_example=per_example,
            )
            for seed in seeds
        ]
        self.step = 0
        self._step = torch.zeros((), dtype=torch.int64, device=self.device)
        self._chunk = self._stack_chunks([stream.chunk() for stream in self.streams])
        self._position = 0
        if any(lane.ema for lane in gans):
            names = self._generators(images, labels)
            self.average = Average({n: self.params[n] for n in names}, [g.ema for g in gans], self.device)
        self._logs: dict[str, list[np.ndarray]] = defaultdict(list)
        self._graph = self._unrecorded()

    def _stack_tensors(self, built: Sequence[Mapping[str, nn.Module]]) -> None:
        """Stack the parameters and the buffers of the networks that were built for each lane."""
        for name in self.modules:
            named = [dict(nets[name].named_parameters()) for nets in built]
            self.params[name] = {
                key: self._stack([p[key].detach() for p in named]).contiguous().requires_grad_()
                for key in named[0]
            }
            held = [dict(nets[name].named_buffers()) for nets in built]
            self.buffers[name] = {key: self._stack([b[key] for b in held]) for key in held[0]}

    # ------------------------------------------------------------ training

    def advance(self, n_steps: int) -> dict[str, np.ndarray]:
        """Train every lane for ``n_steps`` more iterations. Returns their logs by name, (n_steps, S) each."""
        rows: dict[str, list[Tensor]] = defaultdict(list)
        iterate = self._graph or self._iterate
        for k in range(n_steps):
            if self.schedule is not None:
                self.schedule.set(self.step + k)
            for key, value in iterate(self._next_draw()):
                rows[key].append(value)
        self.step += n_steps
        logged = {key: self._means(torch.stack(values), n_steps) for key, values in rows.items()}
        for key, block in logged.items():
            self._logs[key].append(block)
        return logged

    def _iterate(self, draw: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        """One iteration: the updates in order, each with the parameters that the previous one left."""
        logged: list[tuple[str, Tensor]] = []
        for u, update in enumerate(self.gan.updates):
            params = list(self.params[update.net].values())
            own = {name: value[u] for name, value in draw.items()}
            loss, logs = self.losses[u](self.tensors[u], own, self._step, self.numbers[u])
            self._descend(update.net, torch.autograd.grad(loss.sum(), params))
            if update.project is not None:
                with torch.no_grad():
                    for param in params:
                        update.project(param)
            if self.average is not None:
                self.average.update(update.net, self.params[update.net])
            logged += [(key, value.detach()) for key, value in logs.items()]
        self._step += 1
        return logged

    def _descend(self, net: str, grads: Sequence[Tensor]) -> None:
        """One optimizer step in place, for all lanes at once or for each with its own numbers."""
        groups = self.groups[net]
        for lane, group in enumerate(groups):
            for param, grad in zip(group, grads, strict=True):
                own = grad[lane] if len(groups) > 1 else grad
                param.grad = own.contiguous()  # fused optimizers read memory in the parameter's order
        self.optimizers[net].step()

    def _means(self, values: Tensor, n_steps: int) -> np.ndarray:
        """The mean over the logs of each step: (n_steps · logs per step, S) -> (n_steps, S)."""
        values = values if values.is_floating_point() else values.float()  # counts have no mean in PyTorch
        means: np.ndarray = values.reshape(n_steps, -1, len(self.seeds)).mean(1).cpu().numpy()
        return means

    def _next_draw(self) -> dict[str, Tensor]:
        """Indices and noise of the next iteration: (U, B, …), or (U, S, B, …) in a stack."""
        if self._position == len(self._chunk["index"]):
            self._chunk = self._stack_chunks([stream.chunk() for stream in self.streams])
            self._position = 0
        self._position += 1
        return {name: value[self._position - 1] for name, value in self._chunk.items()}

    @property
    def captured(self) -> bool:
        """Whether iterations are replays of a CUDA graph."""
        return self._graph is not None and self._graph.replays

    def _unrecorded(self) -> Captured | None:
        return Captured(self._iterate, self.device) if self.capture else None

    # ------------------------------------------------------------ reading

    def history(self, lane: int = 0) -> dict[str, np.ndarray]:
        """What the losses logged, by name: one number per iteration, (step,)."""
        return {key: np.concatenate(blocks)[:, lane] for key, blocks in self._logs.items()}

    def averages(self, lane: int = 0) -> bool:
        """Whether one seed's generator has averaged weights, too."""
        return self.average is not None and self.average.betas[lane] > 0

    def nets(self, lane: int = 0, *, averaged: bool = False) -> Nets:
        """One seed's networks with their current weights, for sampling and judging."""
        return bind(self.modules, self.weights(lane, averaged=averaged))

    def weights(self, lane: int = 0, *, averaged: bool = False) -> Tensors:
        """One seed's parameters and buffers: detached, but not copied, so training changes them.

        With ``averaged``, the averages stand in place of the parameters that have one.
        """
        means = self.average.params if averaged and self.average is not None else {}
        return {
            name: {
                key: self._lane(value.detach(), lane)
                for key, value in (self.params[name] | means.get(name, {}) | self.buffers[name]).items()
            }
            for name in self.modules
        }

    def averaged(self, lane: int = 0) -> Tensors:
        """Copies of one seed's averages; empty where it has none."""
        if self.average is None or not self.averages(lane):
            return {}
        return {
            name: {key: self._lane(value, lane).clone() for key, value in held.items()}
            for name, held in self.average.params.items()
        }

    # ------------------------------------------------------------ saving

    def state_dict(self, lane: int = 0) -> State:
        """Everything that one seed needs to continue exactly. It does not depend on the stack's size."""
        return {
            "step": self.step,
            "weights": {
                name: {key: value.clone() for key, value in tensors.items()}
                for name, tensors in self.weights(lane).items()
            },
            "average": self.averaged(lane),
            "optim": {name: self._optim_state(name, lane) for name in self.optimizers},
            "stream": self.streams[lane].state.clone(),
            "position": self._position,
            "history": {key: torch.from_numpy(value.copy()) for key, value in self.history(lane).items()},
        }

    def load_state_dict(self, states: Sequence[State]) -> None:
        """Continue from the ``state_dict`` of each lane.

        Raises:
            ValueError: there is not one state per seed, or they are at different steps.
        """
        if len({state["step"] for state in states}) != 1 or len(states) != len(self.seeds):
            raise ValueError("a stack continues from one state per seed, all at the same step")
        with torch.no_grad():
            for name in self.modules:
                for key, tensor in (self.params[name] | self.buffers[name]).items():
                    tensor.copy_(self._stack([state["weights"][name][key] for state in states]))
            for name, held in (self.average.params if self.average else {}).items():
                for key, mean in held.items():  # a seed without an average keeps its weights there
                    lanes = [state["average"].get(name) or state["weights"][name] for state in states]
                    mean.copy_(self._stack([lane[key] for lane in lanes]))
        for name in self.optimizers:
            self._load_optim(name, [state["optim"][name] for state in states])
        self.step = states[0]["step"]
        self._step.fill_(self.step)
        chunks = [
            stream.rewind(state["stream"].cpu()) for stream, state in zip(self.streams, states, strict=True)
        ]
        self._chunk, self._position = self._stack_chunks(chunks), states[0]["position"]
        self._graph = self._unrecorded()  # the old graph would use the optimizers' old state
        self._logs.clear()
        for key in states[0]["history"]:
            lanes = [state["history"][key].cpu().numpy() for state in states]
            self._logs[key].append(np.stack(lanes, axis=1))

    def _optim_state(self, name: str, lane: int) -> dict[str, dict[str, Tensor]]:
        groups, state = self.groups[name], self.optimizers[name].state
        own = groups[lane] if len(groups) > 1 else groups[0]
        return {
            key: {
                field: (self._lane(value, lane) if value.shape == shared.shape else value).clone()
                for field, value in state[param].items()
            }
            for (key, shared), param in zip(self.params[name].items(), own, strict=True)
        }

    def _load_optim(self, name: str, states: Sequence[Mapping[str, Mapping[str, Tensor]]]) -> None:
        groups = self.groups[name]
        for lane, group in enumerate(groups):
            for key, param in zip(self.params[name], group, strict=True):
                held = [state[key] for state in (states if len(groups) == 1 else [states[lane]])]
                self.optimizers[name].state[param] = {
                    field: self._merged(field, [h[field].to(self.device) for h in held]) for field in held[0]
                }

    @staticmethod
    def _merged(field: str, lanes: Sequence[Tensor]) -> Tensor:
        """The values of several lanes stacked; of one lane, or of the step count that all share, a copy."""
        shared = len(lanes) == 1 or (field == "step" and not lanes[0].ndim)
        return lanes[0].clone() if shared else torch.stack(tuple(lanes))

    # ------------------------------------------------------------ stacking

    def _seen_by(self, update: Update) -> Tensors:
        """The tensors of an update's loss. Only the parameters of its own network require gradients."""
        return {
            name: {
                key: value if name == update.net else value.detach()
                for key, value in self.params[name].items()
            }
            | self.buffers[name]
            for name in self.modules
        }

    def _optimize(self, gans: Sequence[Gan], steps: int | None) -> Schedule | None:
        """Make the optimizers, and what sets their learning rates, if these fall."""
        for name in gans[0].optim:
            optims = [lane.optim[name] for lane in gans]
            self.groups[name] = self._groups(name, optims)
            self.optimizers[name] = make_grouped(optims[: len(self.groups[name])], self.groups[name])
        if gans[0].decay == "none":
            return None
        on_gpu = self.device.type == "cuda"
        return Schedule(gans[0].decay, steps, self.optimizers.values(), as_tensors=on_gpu)

    def _generators(self, images: Tensor, labels: Tensor | None) -> list[str]:
        """The networks to average; the model samples two images for that."""
        drawn = {name: self._lane(value[0, 0], 0)[:2] for name, value in self._chunk.items()}
        batch = DataBatch(images, labels, drawn.pop("index"))
        return generators(self.gan, self.nets(), batch, drawn)

    def _groups(self, name: str, optims: Sequence[Optimizer]) -> list[list[Tensor]]:
        """The parameters of an optimizer: each as a whole, or, if optimizers differ, one group per lane."""
        whole = [param.detach() for param in self.params[name].values()]
        if all(optim == optims[0] for optim in optims):
            return [whole]
        return [[param[lane] for param in whole] for lane in range(len(self.seeds))]

    def _stack(self, lanes: Sequence[Tensor], dim: int = 0) -> Tensor:
        return torch.stack(tuple(lanes), dim) if self.stacked else lanes[0]

    def _stack_chunks(self, chunks: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """(K, U, B, …) each -> (K, U, S, B, …)."""
        return {name: self._stack([chunk[name] for chunk in chunks], dim=2) for name in chunks[0]}

    def _lane(self, tensor: Tensor, lane: int) -> Tensor:
        return tensor[lane] if self.stacked else tensor


def build(gan: Gan, seed: int, device: torch.device) -> dict[str, nn.Module]:
    """The networks of one seed, initialised on the CPU with the seed's own random stream."""
    with settings.kept(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        nets = gan.build()
    for net in nets.values():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.num_batches_tracked = None  # vmap cannot update this counter, and nothing reads it
    return {name: net.to(device) for name, net in nets.items()}


def bind(modules: Mapping[str, tuple[nn.Module, nn.Module]], weights: Tensors) -> Nets:
    """Networks with the given weights of one seed."""
    return {name: BoundNet(*pair, weights[name]) for name, pair in modules.items()}
