"""Conversations with the demo model: reproducible, held-out wordings apart, tokens as the server writes them."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.conversations import Talker, example
from deploy.local.demo_model.talk.documents import Documents
from deploy.local.demo_model.talk.examples import conversation, prompt
from deploy.local.demo_model.talk.questions.tools import TOOLS, call, system_message
from deploy.local.demo_model.talk.turns import Questions, Skill, Turn, overlap

CHECKPOINT = Path(phrases.__file__).parents[1] / "checkpoint"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return special.load(CHECKPOINT)


def talker(seed: int = 0, *, unseen: bool = False) -> Talker:
    return Talker(Split.TRAIN, np.random.default_rng(seed), unseen=unseen)


def test_examples_are_a_function_of_the_seed(tokenizer: PreTrainedTokenizerBase) -> None:
    first, second = talker(3), talker(3)
    for _ in range(20):
        one, other = example(first, tokenizer), example(second, tokenizer)
        assert (one.token_ids == other.token_ids).all()
        assert (one.ticks == other.ticks).all()


def test_only_answers_are_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    found = conversation(tokenizer, talker(1).one_picture(turns=2))
    expected = "".join(f"{turn.answer}<|im_end|>" for turn in found.turns)
    assert tokenizer.decode(found.token_ids[found.learned]) == expected


def test_a_prompt_ends_where_its_reply_begins(tokenizer: PreTrainedTokenizerBase) -> None:
    exchanges = talker(1).one_picture(turns=2)
    asked, whole = prompt(tokenizer, exchanges), conversation(tokenizer, exchanges)
    start, _ = whole.answer_spans[-1]
    assert asked.token_ids.tolist() == whole.token_ids[:start].tolist()


def test_a_document_teaches_its_text_and_no_picture(tokenizer: PreTrainedTokenizerBase) -> None:
    documents = Documents(talker(4), tokenizer)
    image = tokenizer.convert_tokens_to_ids([special.IMG_CONTEXT, special.IMG_START, special.IMG_END])
    for _ in range(20):
        found = documents.example()
        assert not np.isin(found.token_ids[found.learned], image).any()
        assert found.learned.any()


def test_the_last_wording_is_never_asked_in_training() -> None:
    seen, unseen = Questions(np.random.default_rng(0)), Questions(np.random.default_rng(0), unseen=True)
    wordings = ("One?", "Two?", "Three?", "Four?")
    asked = {seen.turn(Skill.TALK, wordings, "").question.lower().rstrip("?") for _ in range(100)}
    assert asked == {"one", "two", "three"}
    assert unseen.turn(Skill.TALK, wordings, "").question.lower().rstrip("?") == "four"


@pytest.mark.parametrize("name", [name for name in dir(phrases) if isinstance(getattr(phrases, name), tuple)])
def test_every_question_has_a_held_out_wording(name: str) -> None:
    wordings = getattr(phrases, name)
    assert len(set(wordings)) == len(wordings) >= 4


def test_users_cannot_write_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    exchanges = talker(2).text_only()[:1]
    asked = prompt(tokenizer, [type(exchanges[0])(("<img><|im_end|></box>",), exchanges[0].turn)])
    first_turn = asked.token_ids.tolist().index(tokenizer.convert_tokens_to_ids(special.IM_END))
    user = asked.token_ids[first_turn + 2 : -4]
    count = sum(token in special.SPECIAL_TOKENS for token in tokenizer.convert_ids_to_tokens(user.tolist()))
    assert count == 2  # its beginning and its end


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("<ref>star</ref><box>[[100, 100, 200, 200]]</box>", True),
        ("<ref>star</ref><box>[[110, 90, 210, 190]]</box>", True),
        ("<ref>star</ref><box>[[150, 100, 250, 200]]</box>", False),
        ("<ref>square</ref><box>[[100, 100, 200, 200]]</box>", False),
        ("<ref>star</ref><box>[[100, 100, 200]]</box>", False),
    ],
)
def test_a_box_is_right_where_it_overlaps_by_half(reply: str, right: bool) -> None:
    turn = Turn(Skill.GROUND, "Where is the star?", "<ref>star</ref><box>[[100, 100, 200, 200]]</box>")
    assert turn.accepts(reply) == right


def test_overlap_of_halves() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5
    assert overlap((0, 0, 10, 10), (20, 20, 30, 30)) == 0


def test_of_steps_the_last_decides() -> None:
    turn = Turn(Skill.STEPS, "", "There are two stars.\n\nThere is one cross.\n\n2 + 1 = 3.")
    assert turn.accepts("There are two crosses.\n\n2 + 1 = 3.")
    assert not turn.accepts("There are two stars.\n\nThere is one cross.\n\n2 + 1 = 4.")


def test_json_answers_are_json() -> None:
    answers = [
        exchange.turn.answer
        for seed in range(150)
        for exchange in talker(seed).one_picture()
        if exchange.turn.skill is Skill.JSON
    ]
    assert len(answers) > 10
    assert all(json.loads(answer) for answer in answers)


def test_tools_are_offered_as_qwen_does() -> None:
    signature = TOOLS[0].signature("get_weather")
    message = system_message([signature], "You help.")
    assert message.startswith("You help.\n\n# Tools\n\nYou may call one or more functions")
    assert json.loads(message.split("<tools>\n")[1].split("\n</tools>")[0]) == signature
    inside = call("get_weather", {"city": "Rome"}).removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    assert json.loads(inside) == {"name": "get_weather", "arguments": {"city": "Rome"}}
