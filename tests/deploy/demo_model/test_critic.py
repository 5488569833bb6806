"""The critic: a judgement after each step, scores that do not depend on what is scored beside, learning from labels."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.critic import solutions
from deploy.local.demo_model.critic.layout import judged
from deploy.local.demo_model.critic.learning import Judging
from deploy.local.demo_model.critic.scoring import best, majority, scores
from deploy.local.demo_model.critic.solutions import Solution
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.model import Size
from deploy.local.demo_model.network.learner import Learner
from deploy.local.demo_model.network.packs import packed
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.conversations import Talker
from deploy.local.demo_model.talk.examples import Exchange
from deploy.local.demo_model.talk.turns import Skill, Turn

CHECKPOINT = Path(phrases.__file__).parents[1] / "checkpoint"
TINY = Size(32, 2, 2, 32, 2, 4, 2, 64)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return special.load(CHECKPOINT)


@pytest.fixture
def learner(tokenizer: PreTrainedTokenizerBase) -> Learner:
    image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
    assert isinstance(image_token_id, int)
    return Learner(len(tokenizer), image_token_id, seed=1, threads=1, size=TINY)


@pytest.fixture
def model(learner: Learner) -> InternVLForConditionalGeneration:
    return learner.model


def stars_and_crosses() -> Exchange:
    answer = "There are two stars.\n\nThere is one cross.\n\n2 + 1 = 3."
    picture = Talker(Split.TRAIN, np.random.default_rng(0)).one_picture(turns=1)[0].parts[0]
    turn = Turn(Skill.STEPS, "How many stars and crosses are there together?", answer)
    return Exchange((picture, "\n", turn.question), turn)


def test_the_critic_judges_each_step_in_a_turn_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    exchange = stars_and_crosses()
    one = judged(tokenizer, exchange, exchange.turn.steps, (True, False, True))
    text = tokenizer.decode(one.token_ids)
    assert tokenizer.decode(one.token_ids[one.learned]) == "+-+"
    assert (
        f"</img>\n### Question:\n{exchange.turn.question}\n\n### Solution Process:\nThere are two stars.<|im_end|>\n"
        "<|im_start|>assistant\n+<|im_end|>\n<|im_start|>user\nThere is one cross.<|im_end|>"
    ) in text


def test_scores_are_means_over_steps(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    exchange = stars_and_crosses()
    solutions = [exchange.turn.answer, "There are two stars.", "2 + 1 = 3."]
    together = scores(model, tokenizer, exchange, solutions)
    alone = [scores(model, tokenizer, exchange, [solution])[0] for solution in solutions]
    assert together == pytest.approx(alone, abs=1e-5)
    assert all(0 < score < 1 for score in together)


def test_the_best_and_the_most_frequent_solution() -> None:
    solutions = ["A.\n\n1 + 1 = 2.", "B.\n\n1 + 2 = 3.", "C.\n\n1 + 2 = 3."]
    assert best(solutions, [0.9, 0.3, 0.9]) == solutions[0]
    assert majority(solutions) == solutions[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_question_with_steps_is_a_function_of_its_seed(seed: int) -> None:
    one, other = (solutions.question(seed, Split.HELD_OUT) for _ in range(2))
    assert one.turn == other.turn
    assert len(one.turn.steps) == 3
    assert one.turn.accepts(one.turn.answer)


def test_solutions_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "solutions.jsonl"
    path.write_text('{"seed": 8, "steps": ["A.", "B."], "labels": [true, false]}\n')
    assert solutions.read(path) == [Solution(8, ("A.", "B."), (True, False))]
    assert solutions.read(tmp_path / "none.jsonl") == []


def test_sampled_solutions_have_a_label_for_each_step(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    for one in solutions.sampled(model, tokenizer, seed=3):
        assert len(one.steps) == len(one.labels)
        assert not one.labels[-1]  # a model that knows nothing adds nothing up


def test_judging_is_learned_from_labels(learner: Learner, tokenizer: PreTrainedTokenizerBase) -> None:
    made = [Solution(seed, ("There are two stars.", "2 + 1 = 3."), (True, False)) for seed in range(6)]
    part = Judging(tokenizer, made, steps=10)
    pack = packed([judged(tokenizer, solutions.question(one.seed, Split.TRAIN), one.steps, one.labels) for one in made])
    losses = [learner.learn([pack], partial(part.loss, learner), 3.0) for _ in range(40)]
    assert losses[-1]["judgements"] < 0.5 * losses[0]["judgements"]
    assert losses[-1]["judgements right"] >= 0.5


def test_the_critic_learns_from_packs_of_all_solutions(tokenizer: PreTrainedTokenizerBase) -> None:
    made = [Solution(seed, ("There are two stars.", "2 + 1 = 3."), (True, False)) for seed in range(3)]
    pack = next(Judging(tokenizer, made, steps=10).micro_batches(0))
    assert len(pack.predicted) == 2 * len(pack.segments)
