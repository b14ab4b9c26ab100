from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.running import stateful_names
from ranvier.core.state import Stateful

_TINY = 1e-5  # the authors', in the norms' roots and beside the mean cosine


class RCSRegulariser:
    """Regulariser by cosine similarity (RCS): early activity is to point where late activity does.

    R[t] = z[t] + relu(v[t] / threshold) of a layer, D = mean of R over the last max(1, floor(share T)) steps, without
    gradient; cost[b] = 1 / (mean over t of cos(R[t, b], D[b])), 1 where every step already points at D.
    L = alpha mean over b of m[b] max over layers of cost[b]; m[b] = 1 where the outputs of all those last steps are
    right, else 0.

    Input: what `run(model, x, record=RCSRegulariser.records)` recorded; the step outputs [T, B, classes], not summed;
    labels [B]. Output: a scalar to add to the loss.
    Raises: Refusal for a model without spiking layers that have a membrane and a threshold above 0, for a recording
    without them, for other shapes, for a share outside 0..1 and an alpha below 0.
    Source: Wu, Jin, Yu, Yi and Huang, Front. Neurosci. 2023 (arXiv 2301.09522).

    >>> import ranvier
    >>> model = nn.Sequential(ranvier.LIF(threshold=10.0))
    >>> x = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
    >>> outputs, _, recorded = ranvier.run(model, x, record=RCSRegulariser.records)
    >>> RCSRegulariser(model).costs(recorded)
    tensor([[1.3831]])
    """

    records = ("spikes", "v")

    def __init__(self, model: nn.Module, share: float = 0.3, alpha: float = 2e-3) -> None:
        if not 0 <= share <= 1:
            raise Refusal(
                "RCSRegulariser.share",
                expected="0 to 1",
                got=repr(share),
                do="It is the share of the steps that are late.",
            )
        if not 0 <= alpha < float("inf"):
            raise Refusal("RCSRegulariser.alpha", expected="0 or more", got=repr(alpha), do="It weighs the loss.")
        self.share, self.alpha = share, alpha
        self._layers = {
            name: module for module, name in stateful_names(model).items() if _threshold(module) is not None
        }
        if not self._layers:
            raise Refusal(
                "RCSRegulariser",
                expected="a model with spiking layers that have a membrane v and a threshold",
                got=f"{type(model).__name__} without any",
                do="Use neurons such as ranvier.LIF.",
            )

    def late(self, steps: int) -> int:
        """How many of the last steps say where activity should point."""
        return max(1, int(self.share * steps))

    def costs(self, recorded: Mapping[str, Tensor]) -> Tensor:
        """The cost of each layer and sample [layers, B], 1 or more but for rounding."""
        found = []
        for name, module in self._layers.items():
            prefix = f"{name}." if name else ""
            spikes, v = recorded.get(f"{prefix}spikes"), recorded.get(f"{prefix}v")
            if spikes is None or v is None:
                continue  # a neuron inside a layer that recorded both under its own name
            threshold = _threshold(module)
            assert threshold is not None
            found.append(self._cost(spikes, v, threshold))
        if not found:
            raise Refusal(
                "RCSRegulariser",
                expected="recorded spikes and membranes",
                got=f"only {sorted(recorded)}",
                do="Write y, state, recorded = ranvier.run(model, x, record=RCSRegulariser.records).",
            )
        return torch.stack(found)

    def each(self, recorded: Mapping[str, Tensor], outputs: Tensor, labels: Tensor) -> Tensor:
        """What each sample adds to the loss before the mean: alpha m[b] max over layers of cost[b], shape [B]."""
        if outputs.ndim != 3 or labels.shape != outputs.shape[1:2]:
            raise Refusal(
                "RCSRegulariser",
                expected="outputs [T, B, classes] and labels [B]",
                got=f"{tuple(outputs.shape)} and {tuple(labels.shape)}",
                do="Leave out the decoder that ends time.",
            )
        right = (outputs[-self.late(len(outputs)) :].argmax(-1) == labels).all(0)
        return self.alpha * self.costs(recorded).amax(0) * right

    def __call__(self, recorded: Mapping[str, Tensor], outputs: Tensor, labels: Tensor) -> Tensor:
        return self.each(recorded, outputs, labels).mean()

    def _cost(self, spikes: Tensor, v: Tensor, threshold: Tensor) -> Tensor:
        activity = (spikes.to(v.dtype) + torch.relu(v / threshold.to(v.dtype))).flatten(2)
        aim = activity[-self.late(len(activity)) :].mean(0).detach()
        length = (activity.square().sum(-1) + _TINY).sqrt() * (aim.square().sum(-1) + _TINY).sqrt()
        return 1 / (((activity * aim).sum(-1) / length).mean(0) + _TINY)


def _threshold(module: nn.Module) -> Tensor | None:
    """The threshold of a layer that records spikes and a membrane; of its neuron, where it holds one."""
    if not isinstance(module, Stateful) or not {"spikes", "v"} <= set(module.records):
        return None
    threshold = getattr(module, "threshold", getattr(getattr(module, "neuron", None), "threshold", None))
    if not isinstance(threshold, Tensor):
        return None
    if bool((threshold <= 0).any()):
        raise Refusal(
            f"RCSRegulariser ({type(module).__name__})",
            expected="thresholds above 0, by which membranes are divided",
            got=f"{threshold.min().item():g}",
            do="Raise the threshold.",
        )
    return threshold
