"""What tells pictures apart in vLLM's caches, and what is never handed to it."""

from dataclasses import replace

import pytest
import torch

from internvl.errors import EmbeddingInvalid
from llm_service.engine.interface import EngineRequest, VisualInput
from llm_service.engine.vllm.items import cache_salt, check_rows, identifier
from llm_service.positions import VisualSpan
from tests.support.language import prompt_of


def request(tenant: str = "tenant") -> EngineRequest:
    return prompt_of([3, (12, 64), 2], seed=1).request(tenant=tenant)


def test_whatever_changes_the_result_changes_the_identifier() -> None:
    (visual,) = request().visuals
    others: list[tuple[str, VisualInput]] = [
        ("other", visual),
        ("tenant", replace(visual, key="other")),
        ("tenant", replace(visual, first_row=12)),
        ("tenant", replace(visual, span=VisualSpan(3, 12, 32))),
        ("tenant", replace(visual, span=VisualSpan(3, 11, 64))),
    ]
    names = [identifier(request(tenant), each) for tenant, each in [("tenant", visual), *others]]
    assert len(set(names)) == len(names)
    assert names[0] == identifier(request(), replace(visual, span=VisualSpan(9, 12, 64)))  # wherever it stands


def test_names_cannot_be_made_to_run_into_each_other() -> None:
    (visual,) = request().visuals
    assert identifier(request("b"), replace(visual, key="a', 0")) != identifier(request("0', 'b"), visual)


def test_the_salt_is_of_the_tenant_and_the_rotation() -> None:
    requests = [request(), request("other"), replace(request(), ntk_length=5), request("5:tenant")]
    assert len({cache_salt(each) for each in requests}) == 4


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (torch.zeros(11, 8), "expected"),
        (torch.zeros(12, 9), "expected"),
        (torch.zeros(96), "expected"),
        (torch.zeros(12, 8, dtype=torch.int64), "floating"),
        (torch.zeros(12, 8).fill_(float("nan")), "finite"),
        (torch.zeros(12, 8, dtype=torch.bfloat16).fill_(float("-inf")), "finite"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: torch.Tensor, reason: str) -> None:
    (visual,) = request().visuals
    check_rows(torch.zeros(12, 8), visual, 8)
    with pytest.raises(EmbeddingInvalid, match=reason):
        check_rows(rows, visual, 8)
