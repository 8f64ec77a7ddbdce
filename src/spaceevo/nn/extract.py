"""One subnet as a plain module: its own slices of the shared weights, its own BatchNorm statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spaceevo.nn.elastic import Elastic, Quantizer, Stats
from spaceevo.space import Graph


class Extracted(nn.Module):
    """A stand-alone subnet: ``forward(x)`` equals the supernet's ``forward(x, graph, stats=stats)``."""

    def __init__(self, supernet: Elastic, graph: Graph, stats: Stats, quantizer: Quantizer | None = None) -> None:
        super().__init__()
        self.graph, self.quantizer = graph, quantizer
        self.net = Elastic(graph, padding=supernet.padding)
        self.net.input.load_state_dict(supernet.input.state_dict())
        with torch.no_grad():
            for op in graph.ops:
                source, target = supernet.ops_by_name[op.name], self.net.ops_by_name[op.name]
                known = source.state_dict()
                for name, value in target.state_dict().items():  # shares its memory
                    full = known[name]
                    value.copy_(supernet.weight(op) if name == "weight" else full[: op.cout] if full.dim() else full)
        self.stats = stats

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, resolution, resolution]``."""
        return self.net(x, self.graph, stats=self.stats, quantizer=self.quantizer).flatten(1)
