"""Linear heads that read name, colour, centre and box of things off the visual tokens; thrown away at export.

Shapes: N tiles, C visual tokens a tile, D their width, P patches a visual token, F facts of a patch.
"""

import torch
from torch import nn
from torch.nn import functional

from deploy.local.demo_model.drawing.marks import NAMES
from deploy.local.demo_model.drawing.scenes import COLORS
from deploy.local.demo_model.drawing.tiles import PATCHES_PER_TOKEN
from deploy.local.demo_model.model import SIZE

OUTPUTS = (1 + len(NAMES), 1 + len(COLORS), 1, 4)
"""Scores of a patch: names, colours, centre, box."""
PAPER_WEIGHT = 0.15
BOX_WEIGHT = 2.0


class Heads(nn.Module):
    """Reads what lies under the patches of each visual token."""

    def __init__(self, width: int = SIZE.text_width) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, PATCHES_PER_TOKEN * sum(OUTPUTS))

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, D) and (N, C, P, F) to the loss, and the share of covered patches named rightly."""
        scores = self.out(self.norm(tokens)).view(-1, sum(OUTPUTS))
        labels = labels.view(-1, labels.shape[-1])
        name, color, center, box = scores.split(OUTPUTS, dim=-1)
        covered = labels[:, 0] > 0
        weight = torch.where(covered, 1.0, PAPER_WEIGHT)
        weight = weight / weight.sum()
        naming = (functional.cross_entropy(name, labels[:, 0], reduction="none") * weight).sum()
        coloring = (functional.cross_entropy(color, labels[:, 1], reduction="none") * weight).sum()
        centering = functional.binary_cross_entropy_with_logits(center[:, 0], labels[:, 2].float())
        boxing = functional.l1_loss(box[covered].sigmoid(), labels[covered, 3:] / 1000)
        right = (name.argmax(-1) == labels[:, 0])[covered].float().mean()
        return naming + 0.5 * coloring + centering + BOX_WEIGHT * boxing, right
