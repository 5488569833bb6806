"""The demo model's training: packs equal transformers' forward pass, losses are the papers', a run resumes exactly."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.answering import answers
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.model import Size, build
from deploy.local.demo_model.network.forward import hidden_states, visual_tokens
from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.network.muon import orthogonal
from deploy.local.demo_model.network.packs import TILES, TOKENS, packed, packs, square_averaged
from deploy.local.demo_model.network.sampling import replies
from deploy.local.demo_model.recipe import pairs, state
from deploy.local.demo_model.recipe.pairs import Pair
from deploy.local.demo_model.recipe.preference import (
    PAIRS_PER_MICRO_BATCH,
    Preference,
    mixed_losses,
    reply_lengths,
    reply_log_shares,
)
from deploy.local.demo_model.recipe.run import Part, Run, warm_up_and_fall
from deploy.local.demo_model.recipe.staged import PROJECTOR, TEXT, TOWER
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.conversations import Talker, example
from deploy.local.demo_model.talk.examples import Example, Exchange, conversation, prompt
from deploy.local.demo_model.talk.turns import Skill, Turn

CHECKPOINT = Path(phrases.__file__).parents[1] / "checkpoint"
TINY = Size(32, 2, 2, 32, 2, 4, 2, 64)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return special.load(CHECKPOINT)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> InternVLForConditionalGeneration:
    torch.manual_seed(0)
    image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
    assert isinstance(image_token_id, int)
    return build(len(tokenizer), image_token_id, TINY)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples(tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 1) -> list[Example]:
    talker = Talker(Split.TRAIN, np.random.default_rng(seed))
    return [conversation(tokenizer, talker.one_picture()), *(example(talker, tokenizer) for _ in range(count - 1))]


@torch.no_grad()
def test_a_pack_equals_transformers(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    some = examples(tokenizer, 5)
    pack = packed(some)
    visual = visual_tokens(model, pack.tiles)
    logits = model.lm_head(hidden_states(model, pack, visual))
    tile = 0
    for one, (start, end) in zip(some, pack.segments, strict=True):
        token_ids = torch.from_numpy(one.token_ids)[None]
        shown = visual[tile : tile + one.tile_count]
        tile += one.tile_count
        is_visual = (token_ids == model.config.image_token_id)[..., None]
        embeddings = model.get_input_embeddings()(token_ids).masked_scatter(is_visual, shown)
        expected = model(
            inputs_embeds=embeddings,
            attention_mask=torch.ones_like(token_ids),
            position_ids=pack.positions[start:end][None],
        ).logits[0]
        torch.testing.assert_close(logits[start:end], expected, atol=2e-5, rtol=1e-4)


def test_cached_replies_equal_the_plain_way(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    questions = ["Who are you?", "What is two plus two?", "Hi"]
    turns = [Turn(Skill.TALK, question, "") for question in questions]
    said = replies(model, tokenizer, [prompt(tokenizer, [Exchange((turn.question,), turn)]) for turn in turns])
    plain = [answers(model, tokenizer, [], [question], increment=256)[0] for question in questions]
    assert [reply[:60] for reply in said] == [reply[:60] for reply in plain]


def test_packs_keep_their_budget_and_lose_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    some = packs(iter(examples(tokenizer, 220)), np.random.default_rng(0))
    for pack in (next(some) for _ in range(4)):
        assert len(pack.token_ids) <= TOKENS
        assert len(pack.tiles) <= TILES + 8
        assert len(pack.places) == len(pack.token_ids) == pack.segments[-1][1]
        assert pack.rows.flatten()[pack.places].tolist() == list(range(len(pack.token_ids)))


def test_losses_are_averaged_by_the_square_root_of_their_number(tokenizer: PreTrainedTokenizerBase) -> None:
    one = examples(tokenizer, 1)[0]
    weights = square_averaged(one)
    assert set(np.flatnonzero(weights)) == set(np.flatnonzero(one.learned))
    assert weights.sum() == pytest.approx(one.learned.sum() ** 0.5)


def test_orthogonal_update_has_singular_values_around_one() -> None:
    torch.manual_seed(0)
    for rows, cols in ((32, 96), (96, 32)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(2, rows, cols)))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_mixed_losses_are_those_of_the_paper() -> None:
    now, before = torch.tensor([-2.0, -9.0]), torch.tensor([-4.0, -5.0])
    preference, quality, generation, rewards = mixed_losses(now, before, torch.tensor([4, 6]), shift=0.1)
    assert rewards.tolist() == pytest.approx([0.2, -0.4])
    assert preference.item() == pytest.approx(log(1 + np.exp(-0.6)))
    assert quality.item() == pytest.approx(log(1 + np.exp(-0.1)) + log(1 + np.exp(-0.5)))
    assert generation.item() == pytest.approx(0.5)


@torch.no_grad()
def test_log_shares_are_sums_over_a_reply(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    some = examples(tokenizer, 3)
    pack = packed(some)
    found = reply_log_shares(model, pack)
    scores_of_all = model.lm_head(hidden_states(model, pack, visual_tokens(model, pack.tiles)))
    for index, (one, (start, end)) in enumerate(zip(some, pack.segments, strict=True)):
        log_shares = functional.log_softmax(scores_of_all[start : end - 1], dim=-1)
        chosen = log_shares.gather(1, pack.token_ids[start + 1 : end, None])[:, 0]
        assert found[index].item() == pytest.approx(chosen[torch.from_numpy(one.learned[1:])].sum().item(), rel=1e-4)
    assert reply_lengths(pack).tolist() == [int(one.learned.sum()) for one in some]


def test_frozen_weights_stay() -> None:
    learner = Learner(300, 299, seed=1, threads=1, size=TINY)
    learner.freeze(TOWER, *TEXT)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learner.learn([1.0], partial(Counting().loss, learner), 0.1)
    after = learner.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith(PROJECTOR)}


def test_a_rate_rises_stays_and_falls() -> None:
    rates = [warm_up_and_fall(step, 100, warm_up=10, falling=50) for step in (0, 9, 49, 75, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.02])


class Counting(Part):
    """Pulls the model's weights towards one, differently at each step."""

    name = "counting"
    steps = 6

    def micro_batches(self, seed: int) -> Iterator[float]:
        while True:
            yield float(seed % 7 + 1)

    def loss(self, learner: Learner, micro_batch: Any) -> tuple[torch.Tensor, Losses]:
        learning = [parameter for parameter in learner.parameters if parameter.requires_grad]
        loss = micro_batch * sum((parameter - 1).square().mean() for parameter in learning)
        assert isinstance(loss, torch.Tensor)
        return loss, {"size": loss.item()}

    def rate(self, step: int) -> float:
        return 0.1


def small_run(folder: Path) -> Run:
    learner = Learner(300, 299, seed=1, threads=2, size=TINY)
    return Run(folder, learner, [Counting()])


def test_a_stopped_run_resumes_with_the_same_weights(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    run.learner.learn([1.0, 2.0], partial(run.parts[0].loss, run.learner), 0.1)
    run.step = 1
    run.save()
    resumed = small_run(tmp_path)
    resumed.resume()
    assert (resumed.part, resumed.step) == ("counting", 1)
    for one in (run, resumed):
        one.learner.learn([3.0, 1.0], partial(one.parts[0].loss, one.learner), 0.1)
    for name, tensor in run.learner.state()["average"].items():
        assert torch.equal(tensor, resumed.learner.state()["average"][name])


def test_a_run_goes_to_the_end_and_records_its_losses(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    run.go("counting")
    assert (tmp_path / "losses.csv").read_text().startswith("counting,5,size,")
    saved = state.load(tmp_path, "counting.pt")
    assert saved is not None
    assert saved["step"] == Counting.steps
    assert not list(tmp_path.glob("*.tmp"))


def test_a_stopped_run_saves_its_step(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    run.stop()
    run.go("counting")
    saved = state.load(tmp_path)
    assert saved is not None
    assert saved["step"] == 0
    assert not (tmp_path / "counting.pt").exists()


def test_preferences_are_learned_from_the_pairs_of_the_run(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
    assert isinstance(image_token_id, int)
    learner = Learner(len(tokenizer), image_token_id, seed=1, threads=1, size=TINY)
    state.save(tmp_path, learner.state(), "finetuning.pt")
    made = [Pair(seed, pairs.drawn(seed)[0][-1].turn.answer, "Goodbye!") for seed in range(PAIRS_PER_MICRO_BATCH)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in made))
    part = Preference(tokenizer, tmp_path, steps=2, pair_count=len(made))
    part.begin(learner)
    batches = part.micro_batches(0)
    first = learner.learn([next(batches)], partial(part.loss, learner), 1.0)
    later = [learner.learn([next(batches)], partial(part.loss, learner), 1.0) for _ in range(4)]
    assert first["preference"] == pytest.approx(log(2), abs=1e-5)  # the model still equals its reference
    assert later[-1]["preference"] < first["preference"]
    assert later[-1]["generation"] < first["generation"]
    assert later[-1]["pairs right"] > 0.5
