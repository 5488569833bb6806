"""Whatever a model would say, a reply that ends by itself is JSON that its schema allows."""

import json
import os
from collections.abc import Iterator

import jsonschema
import pytest

from llm_service.engine.grammar import Grammars
from llm_service.output.formats import schema_grammar
from tests.support.constrained import random_reply
from tests.support.schemas import schema
from tests.support.tokenizer import core, end_id

COUNT = int(os.environ.get("SCHEMA_COUNT", "25"))
"""`SCHEMA_COUNT=500 python -m pytest tests/llm_service/output/test_schemas.py` is the whole proof."""
_STOP = end_id()
_VALIDATOR = jsonschema.Draft202012Validator


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    grammars = Grammars(core(), _STOP)
    yield grammars
    grammars.close()


def test_every_reply_that_ends_is_valid(grammars: Grammars) -> None:
    ended = 0
    for seed in range(COUNT):
        wanted = schema(seed)
        grammar = schema_grammar(wanted, "")
        reply = random_reply(grammars, grammar, seed=seed, stop_token_id=_STOP, vocabulary=300, max_tokens=600)
        if reply.has_ended:
            ended += 1
            text = core().decode(reply.token_ids)
            _VALIDATOR(wanted, format_checker=_VALIDATOR.FORMAT_CHECKER).validate(json.loads(text))
    assert ended > COUNT * 0.8
