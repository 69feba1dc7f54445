"""PyTorch's ways to train the same networks: one at a time as anyone would write it, and many at once by vmap.

Axes: K networks, N steps, B samples of a batch. Both draw the exact engine's batches and start from its parameters, so
their losses can be compared with its losses.
"""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.weights.modules import LastStep, torch_layer
from protocol.engine.initial import initial_state
from protocol.engine.streams import batch_order
from protocol.recipes.layers import Recurrent
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

NO_REPDL = "repdl is not installed: pip install it from its repository, microsoft/RepDL"
ORDER_STEPS = 1000  # batches prepared in advance; then the same ones again
LOSSES = {
    "cross_entropy": nn.functional.cross_entropy,
    "mse": nn.functional.mse_loss,
    "bce": nn.functional.binary_cross_entropy_with_logits,
}


class PlainNetwork(nn.Sequential):
    """The network as anyone would write it; a stack of equal recurrent layers is one module."""

    def __init__(self, recipe: Recipe):
        layers, modules, i = recipe.network.layers, [], 0
        while i < len(layers):
            layer, depth = layers[i], 1
            while isinstance(layer, Recurrent) and layers[i + depth : i + depth + 1] == (layer,):
                depth += 1
            module = torch_layer(layer, recipe.flows[i])
            if isinstance(module, nn.RNNBase):
                kind: Any = type(module)  # RNNBase itself takes a mode first, its kinds do not
                module = kind(module.input_size, module.hidden_size, depth, batch_first=True)
            modules.append(module)
            i += depth
        super().__init__(*modules)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        for layer in self:
            if isinstance(layer, LastStep):
                input = input[:, -1]
            else:
                input = layer(input)[0] if isinstance(layer, nn.RNNBase) else layer(input)
        return input

    @torch.no_grad()
    def start_from(self, params: np.ndarray) -> None:
        """Flat parameters (P,) in the recipe's order, which is the modules' order."""
        parts = torch.from_numpy(params).split([array.numel() for array in self.parameters()])
        for array, part in zip(self.parameters(), parts, strict=True):
            array.copy_(part.view_as(array))


def samples_of(recipe: Recipe, data: TaskData, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Training inputs and targets as a plain loop holds them: no axis of time where there is one step."""
    shape = recipe.task_shape
    inputs = torch.tensor(data.inputs, dtype=torch.float32)
    inputs = inputs * shape.scale if data.inputs.dtype == np.uint8 else inputs
    targets = torch.tensor(data.targets)
    targets = targets.long() if recipe.training.loss == "cross_entropy" else targets.float()
    inputs = inputs[:, 0] if shape.length == 1 else inputs
    targets = targets[:, 0] if shape.target_length == 1 else targets
    return inputs.to(device), targets.to(device)


class PlainLoop:
    """One network at a time: nn modules, autograd, torch.optim.Adam."""

    def __init__(self, recipe: Recipe, data: TaskData, threads: int = 1, device: str = "cpu"):
        t = recipe.training
        self.networks, self.threads, self.clip_norm = 1, threads, t.clip_norm
        self.inputs, self.targets = samples_of(recipe, data, device)
        self.order_NB = torch.from_numpy(batch_order(recipe, 0, 0, ORDER_STEPS)).to(device)
        self.network = PlainNetwork(recipe)
        self.network.start_from(initial_state(recipe, 0).params)
        self.network.to(device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=t.learning_rate, betas=(t.beta1, t.beta2), eps=t.epsilon
        )
        self.loss_of, self.at = LOSSES[t.loss], 0

    def run(self, steps: int) -> np.ndarray:
        """Trains; returns the training losses (1, N)."""
        torch.set_num_threads(self.threads)
        losses = []
        for _ in range(steps):
            rows = self.order_NB[self.at % ORDER_STEPS]
            loss = self.loss_of(self.network(self.inputs[rows]), self.targets[rows])
            self.optimizer.zero_grad()
            loss.backward()
            if self.clip_norm:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
            self.optimizer.step()
            losses.append(loss.detach())
            self.at += 1
        return torch.stack(losses)[None].cpu().numpy()


class RepDlLoop(PlainLoop):
    """The same loop over RepDL's modules, loss and Adam (Xie et al., arXiv:2510.09180), on one thread: another library
    whose results are the same bits on every machine. It has linear layers, convolutions and cross entropy.

    Raises NotImplementedError: not installed, or a network that it has no layers for.
    """

    def __init__(self, recipe: Recipe, data: TaskData):
        if importlib.util.find_spec("repdl") is None:
            raise NotImplementedError(NO_REPDL)
        import repdl  # pyright: ignore[reportMissingImports] - only where RepDL is measured

        layers = recipe.network.layers
        if recipe.training.loss != "cross_entropy" or any(isinstance(layer, Recurrent) for layer in layers):
            raise NotImplementedError("RepDL has no recurrent layers, and no loss but cross entropy")
        super().__init__(recipe, data)
        t = recipe.training
        self.network = repdl.from_torch_module(self.network)
        self.optimizer = repdl.optim.Adam(
            self.network.parameters(), lr=t.learning_rate, betas=(t.beta1, t.beta2), eps=t.epsilon
        )
        self.loss_of = repdl.nn.functional.cross_entropy


class VmapLoop:
    """K networks at once: vmap over stacked parameters of the loss's gradient, and Adam on the stacks.

    Recurrent layers run with oneDNN and cuDNN off: vmap does not reach into either, and loops where it meets oneDNN.
    """

    def __init__(self, recipe: Recipe, data: TaskData, seeds: list[int], device: str = "cpu"):
        self.networks, self.training = len(seeds), recipe.training
        self.is_recurrent = any(isinstance(layer, Recurrent) for layer in recipe.network.layers)
        self.inputs, self.targets = samples_of(recipe, data, device)
        orders = {seed: torch.from_numpy(batch_order(recipe, seed, 0, ORDER_STEPS)) for seed in set(seeds)}
        self.orders_NKB = torch.stack([orders[seed] for seed in seeds], 1).to(device)
        network = PlainNetwork(recipe)
        self.params = self._stacked(network, recipe, seeds, device)
        self.first = {name: torch.zeros_like(stack) for name, stack in self.params.items()}
        self.second = {name: torch.zeros_like(stack) for name, stack in self.params.items()}
        loss_of, self.at = LOSSES[recipe.training.loss], 0
        network.to(device)

        def loss(params: dict[str, torch.Tensor], values: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            return loss_of(torch.func.functional_call(network, params, (values,)), wanted)

        self.gradients_of = torch.func.vmap(torch.func.grad_and_value(loss))

    @staticmethod
    def _stacked(network: PlainNetwork, recipe: Recipe, seeds: list[int], device: str) -> dict[str, torch.Tensor]:
        starts: dict[int, dict[str, torch.Tensor]] = {}
        for seed in set(seeds):
            network.start_from(initial_state(recipe, seed).params)
            starts[seed] = {name: array.detach().clone().to(device) for name, array in network.named_parameters()}
        return {name: torch.stack([starts[seed][name] for seed in seeds]) for name in starts[seeds[0]]}

    def run(self, steps: int) -> np.ndarray:
        """Trains; returns the training losses (K, N)."""
        torch.set_num_threads(1)
        losses = []
        with self._backends():
            for _ in range(steps):
                rows_KB = self.orders_NKB[self.at % ORDER_STEPS]
                gradients, loss_K = self.gradients_of(self.params, self.inputs[rows_KB], self.targets[rows_KB])
                self.at += 1
                self._adam(gradients)
                losses.append(loss_K.detach())
        return torch.stack(losses, 1).cpu().numpy()

    @contextlib.contextmanager
    def _backends(self) -> Iterator[None]:
        if not self.is_recurrent:
            yield
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")  # the switch's own side
            with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
                yield

    @torch.no_grad()
    def _adam(self, gradients: dict[str, torch.Tensor]) -> None:
        """torch.optim.Adam's update (Kingma and Ba 2015, algorithm 1), and each network's own clipping."""
        t = self.training
        self._clip(gradients)
        for name, stack in self.params.items():
            first, second, gradient = self.first[name], self.second[name], gradients[name]
            first.lerp_(gradient, 1 - t.beta1)
            second.mul_(t.beta2).addcmul_(gradient, gradient, value=1 - t.beta2)
            root = second.sqrt().div_((1 - t.beta2**self.at) ** 0.5).add_(t.epsilon)
            stack.addcdiv_(first, root, value=-t.learning_rate / (1 - t.beta1**self.at))

    def _clip(self, gradients: dict[str, torch.Tensor]) -> None:
        if self.training.clip_norm:
            squares_K = sum(stack.flatten(1).square().sum(1) for stack in gradients.values())
            factor_K = (self.training.clip_norm / (torch.as_tensor(squares_K).sqrt() + 1e-6)).clamp(max=1.0)
            for stack in gradients.values():
                stack.mul_(factor_K.view(-1, *[1] * (stack.dim() - 1)))


class GraphLoop(VmapLoop):
    """The same stacked step, captured once as a CUDA graph and replayed, so that no operation is launched from Python.

    On the processor, where there are no graphs, the step runs as it is: what is captured can be compared anywhere.
    """

    def __init__(self, recipe: Recipe, data: TaskData, seeds: list[int], device: str = "cpu"):
        super().__init__(recipe, data, seeds, device)
        self.rows_KB, self.loss_K = self.orders_NKB[0].clone(), torch.zeros(len(seeds), device=device)
        self.count = torch.zeros((), device=device)  # of steps, where a graph finds it
        with self._backends():
            self.replay = self._captured() if device.startswith("cuda") else self._step

    def run(self, steps: int) -> np.ndarray:
        """Trains; returns the training losses (K, N)."""
        losses = []
        with self._backends():
            for _ in range(steps):
                self.rows_KB.copy_(self.orders_NKB[self.at % ORDER_STEPS])
                self.replay()
                self.at += 1
                losses.append(self.loss_K.clone())
        return torch.stack(losses, 1).cpu().numpy()

    def _step(self) -> None:
        gradients, loss_K = self.gradients_of(self.params, self.inputs[self.rows_KB], self.targets[self.rows_KB])
        self.loss_K.copy_(loss_K.detach())
        self._adam(gradients)

    def _captured(self) -> Callable[[], None]:
        """PyTorch wants a few steps on another stream first; what they trained is taken back."""
        kept = [self.count, *(stack for stacks in (self.params, self.first, self.second) for stack in stacks.values())]
        before = [array.clone() for array in kept]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        for array, was in zip(kept, before, strict=True):
            array.copy_(was)
        return graph.replay

    @torch.no_grad()
    def _adam(self, gradients: dict[str, torch.Tensor]) -> None:
        """As there, with the number of steps in the card's memory."""
        t = self.training
        self._clip(gradients)
        self.count += 1
        size = t.learning_rate / (1 - t.beta1**self.count)
        scale = (1 - t.beta2**self.count).sqrt()
        for name, stack in self.params.items():
            first, second, gradient = self.first[name], self.second[name], gradients[name]
            first.lerp_(gradient, 1 - t.beta1)
            second.mul_(t.beta2).addcmul_(gradient, gradient, value=1 - t.beta2)
            stack.sub_(first.div(second.sqrt().div_(scale).add_(t.epsilon)).mul_(size))
