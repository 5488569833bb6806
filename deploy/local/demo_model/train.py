"""Trains the demo model from nothing: the tower names patches, then the whole model talks about pictures.

    python -m deploy.local.demo_model.train --out FOLDER            # picks up where an earlier run left off
    python -m deploy.local.demo_model.export --state FOLDER/state.pt

Both stages use Muon for the matrices inside the layers and AdamW for the rest. The learning rate warms up, stays,
and falls to nothing over the last part of the second stage.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model import model as architecture
from deploy.local.demo_model import tokenizer as special
from deploy.local.demo_model.batches import Batch, Batches, pixel_values
from deploy.local.demo_model.examples import IGNORED
from deploy.local.demo_model.muon import Muon
from deploy.local.demo_model.warmup import Heads, LabeledTiles

SEED = 7
BATCH_SIZE = 64
MATRIX_RATE = 3e-3
OTHER_RATE = 1.5e-3
SAVED_EVERY = 100
RATE_WARM_UP_STEPS = 60
SIDE_LOSS = 0.6
"""Weight of the patch labels in the second stage."""
VERDICT_WEIGHT = 4.0
"""Weight of the words Yes and No, which are learned last: all else in an answer can be read off the picture."""


@dataclass(frozen=True)
class Plan:
    """Steps of each part of the training."""

    tower: int
    """Tower only."""
    easy: int
    """The whole model, pictures of one tile."""
    hard: int
    """Several tiles, two pictures and clips as well."""
    falling: int
    """The last steps, over which the learning rate falls."""

    @property
    def total(self) -> int:
        return self.tower + self.easy + self.hard

    def rate(self, step: int) -> float:
        """Learning rate at `step`, relative to the highest."""
        since_start = step if step < self.tower else step - self.tower
        return min(1.0, (since_start + 1) / RATE_WARM_UP_STEPS, max(0.0, (self.total - step) / self.falling))


class Trainer:
    """The network and its optimizers at one step of the plan."""

    def __init__(self, plan: Plan, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> None:
        torch.manual_seed(SEED)
        image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
        assert isinstance(image_token_id, int)
        self.plan, self.tokenizer, self.device = plan, tokenizer, device
        self.model = architecture.build(len(tokenizer), image_token_id)
        self.model.to(device)  # type: ignore[arg-type]  # transformers' decorator hides the method's own type
        self.heads = Heads().to(device)
        self.step = 0
        self.token_weights = torch.ones(len(tokenizer), device=device)
        for verdict in ("Yes", "No"):
            self.token_weights[tokenizer.convert_tokens_to_ids(verdict)] = VERDICT_WEIGHT
        matrices, others = _parameters(self.model, self.heads)
        self.parameters = matrices + others
        self.optimizers = [
            Muon(matrices, lr=MATRIX_RATE),
            torch.optim.AdamW(others, lr=OTHER_RATE, weight_decay=0.01, betas=(0.9, 0.98)),
        ]

    def run(self, folder: Path) -> None:
        """Train to the end of the plan, saving to `folder/state.pt` on the way."""
        bar = tqdm(total=self.plan.total, initial=self.step, unit="step", mininterval=10)
        while self.step < self.plan.total:
            for batch in self._batches(until=self._end_of_part()):
                bar.set_postfix_str(self._learn(batch))
                bar.update()
                if self.step % SAVED_EVERY == 0 or self.step == self.plan.total:
                    self.save(folder)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, folder / "state.tmp")
        (folder / "state.tmp").rename(folder / "state.pt")

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self.optimizers, state.get("optimizers", []), strict=False):
            optimizer.load_state_dict(saved)

    def _end_of_part(self) -> int:
        ends = (self.plan.tower, self.plan.tower + self.plan.easy, self.plan.total)
        return next(end for end in ends if self.step < end)

    def _batches(self, until: int) -> Iterator[Any]:
        """Batches of the part that the current step belongs to. A resumed run goes on with a seed of its own."""
        seed = SEED * 1_000_003 + self.step
        dataset: IterableDataset[Any]
        if until == self.plan.tower:
            dataset = LabeledTiles(BATCH_SIZE, seed)
        else:
            dataset = Batches(self.tokenizer, batch_size=BATCH_SIZE, seed=seed, hard=until == self.plan.total)
        loader = DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=8, worker_init_fn=_give_way)
        for batch, _ in zip(loader, range(until - self.step), strict=False):
            yield batch

    def _learn(self, batch: Any) -> str:
        """One step of training; what the progress bar says about it."""
        if isinstance(batch, Batch):
            loss, report = self._talking_loss(batch.to(self.device))
        else:
            tiles, labels = batch
            loss, right = self.heads(self._visual_tokens(tiles.to(self.device)), labels.to(self.device))
            report = f"patches {loss.item():.3f}, right {right.item():.0%}"
        for optimizer, highest in zip(self.optimizers, (MATRIX_RATE, OTHER_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = highest * self.plan.rate(self.step)
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return report

    def _talking_loss(self, batch: Batch) -> tuple[torch.Tensor, str]:
        tokens = self._visual_tokens(batch.tiles)
        side, right = self.heads(tokens[batch.whole_tiles], batch.labels)
        logits = answer_logits(self.model, batch, tokens)
        targets = batch.targets[:, 1:][batch.targets[:, 1:] != IGNORED]
        answers = functional.cross_entropy(logits, targets, weight=self.token_weights)
        return (
            answers + SIDE_LOSS * side,
            f"answers {answers.item():.3f}, patches {side.item():.3f}, right {right.item():.0%}",
        )

    def _visual_tokens(self, tiles: torch.Tensor) -> torch.Tensor:
        """uint8 (N, S, S, 3) to (N, C, D)."""
        tokens = self.model.model.get_image_features(pixel_values(tiles)).pooler_output
        assert isinstance(tokens, torch.Tensor)
        return tokens


def answer_logits(model: InternVLForConditionalGeneration, batch: Batch, tokens: torch.Tensor) -> torch.Tensor:
    """Scores of every token of every answer, (A, V), in the order of the batch. `tokens` (N, C, D) are visual.

    The mask is always given: without one, transformers takes fractional positions for packed sequences.
    """
    embeddings = model.get_input_embeddings()(batch.token_ids)
    visual = batch.token_ids == model.config.image_token_id
    embeddings = embeddings.masked_scatter(visual[..., None], tokens)
    hidden = model.model.language_model(
        inputs_embeds=embeddings, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    scores = model.lm_head(hidden[:, :-1][batch.targets[:, 1:] != IGNORED])
    assert isinstance(scores, torch.Tensor)
    return scores


def _give_way(_worker: int) -> None:
    """Drawing pictures is ahead of training; let it wait rather than slow training down."""
    os.nice(5)


def _parameters(model: nn.Module, heads: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside the layers, and everything else."""
    matrices: list[nn.Parameter] = []
    others = list(heads.parameters())
    for name, parameter in model.named_parameters():
        inside = ".layer" in name or "multi_modal_projector" in name
        (matrices if inside and parameter.ndim == 2 else others).append(parameter)
    return matrices, others


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The run's tokenizer: once trained it stays, even if the questions it was trained on change."""
    if not folder.exists():
        special.save(special.train(), folder)
    return special.load(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for state.pt; training goes on from it if it is there"
    )
    parser.add_argument("--tower-steps", type=int, default=1000)
    parser.add_argument("--easy-steps", type=int, default=500)
    parser.add_argument("--hard-steps", type=int, default=1575)
    parser.add_argument("--falling-steps", type=int, default=700)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plan = Plan(arguments.tower_steps, arguments.easy_steps, arguments.hard_steps, arguments.falling_steps)
    trainer = Trainer(
        plan, _tokenizer(arguments.out / "tokenizer"), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    if (arguments.out / "state.pt").exists():
        trainer.load(arguments.out / "state.pt")
    trainer.run(arguments.out)


if __name__ == "__main__":
    main()
