"""What pre-training and fine-tuning share: the loss of a pack of conversations or documents."""

import torch

from deploy.local.demo_model.network.forward import predictions, token_loss, visual_tokens
from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.network.packs import Pack


def pack_loss(learner: Learner, pack: Pack, *, side_weight: float) -> tuple[torch.Tensor, Losses]:
    """The next-token loss, and `side_weight` times that of naming what lies under the patches."""
    visual = visual_tokens(learner.model, pack.tiles)
    side, named = learner.heads(visual, pack.labels)
    scores = predictions(learner.model, pack, visual)
    text = token_loss(scores, pack)
    right = (scores.argmax(-1) == pack.token_ids[pack.predicted]).float().mean()
    losses = {"text": text, "tokens right": right, "patches": side, "patches right": named}
    return text + side_weight * side, {name: loss.item() for name, loss in losses.items()}
