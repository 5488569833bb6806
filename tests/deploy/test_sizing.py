"""What a load takes: known figures of the models, and what must hold for any load."""

from dataclasses import replace

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.sizing.costs import Costs
from deploy.sizing.family import SIZES, config_of
from deploy.sizing.plan import Load, Machines, plan
from internvl.cli.main import app

MIB = 1 << 20


def costs(size: str) -> Costs:
    return Costs.of(config_of(size))


def test_a_tile_of_the_largest_model() -> None:
    found = costs("78B")
    assert found.tile_flops == pytest.approx(12.0e12, rel=0.01)
    assert found.prefill_flops(256) == pytest.approx(36.0e12, rel=0.01)
    assert found.tile_bytes == 4 * MIB
    assert found.token_kv_bytes == 320 * 1024
    assert found.tokens_per_tile * found.token_kv_bytes == 80 * MIB


@pytest.mark.parametrize(("size", "share"), [("78B", 0.25), ("38B", 0.43), ("8B", 0.18), ("1B", 0.80)])
def test_the_share_of_encoding_in_what_a_tile_costs(size: str, share: float) -> None:
    found = costs(size)
    assert found.tile_flops / (found.tile_flops + found.prefill_flops(256)) == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize(("size", "billions"), [("1B", 0.63), ("8B", 7.6), ("14B", 14.8), ("38B", 32.8), ("78B", 72.7)])
def test_weights_of_the_decoders(size: str, billions: float) -> None:
    assert costs(size).weight_bytes / 2e9 == pytest.approx(billions, rel=0.02)


def test_a_plan_worked_out_by_hand() -> None:
    """One tile a second of the 78B size, encoded at 24 TFLOP/s: half a GPU; written and read as 4 MiB each."""
    machines = Machines(gpu_tflops=24.0, utilization=1.0, gateway_chats_per_second=0.4, keep_seconds=1024.0)
    found = plan(costs("78B"), Load(chats_per_second=1.0, tiles=1), machines)
    assert found.vision_pods == 1
    assert plan(costs("78B"), Load(chats_per_second=2.0, tiles=1), machines).vision_pods == 2  # 24.07 TFLOP
    assert found.gpus_per_llm_pod == 4
    assert found.gateway_pods == 3
    assert found.vision_to_redis == found.redis_to_llm == 4 * MIB
    assert found.redis_bytes == 4 * 1024 * MIB
    assert found.redis_shards == 1


loads = st.builds(
    Load,
    chats_per_second=st.floats(0.01, 1000),
    tiles=st.integers(0, 40),
    text_tokens=st.integers(1, 4000),
    reply_tokens=st.integers(1, 4000),
    new_tiles=st.floats(0, 1),
    cached_prompt=st.floats(0, 0.99),
)


@given(st.sampled_from(SIZES), loads)
def test_more_load_never_takes_less(size: str, load: Load) -> None:
    known = costs(size)
    machines = Machines()
    try:
        found = plan(known, load, machines)
        more = plan(known, replace(load, chats_per_second=load.chats_per_second * 2), machines)
    except ValueError:
        reject()
    assert found.vision_pods <= more.vision_pods <= 2 * found.vision_pods
    assert found.llm_pods <= more.llm_pods <= 2 * found.llm_pods
    assert found.redis_shards <= more.redis_shards
    cached = plan(known, replace(load, new_tiles=0.0, cached_prompt=0.99), machines)
    assert cached.vision_pods == 0
    assert cached.vision_to_redis == 0
    assert cached.llm_pods <= found.llm_pods


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"chats_per_second": 0.0}, "chats per second"),
        ({"tiles": -1}, "tiles"),
        ({"new_tiles": 1.5}, "shares"),
        ({"cached_prompt": 1.0}, "shares"),
        ({"reply_tokens": 0}, "reply tokens"),
    ],
)
def test_loads_that_are_none(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Load(**({"chats_per_second": 1.0, "tiles": 1} | wrong))  # type: ignore[arg-type]


def test_a_conversation_that_fits_no_memory() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        plan(costs("8B"), Load(1.0, 4000), Machines())


def test_the_command() -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["plan", "--model", "78B", "--chats-per-second", "100", "--tiles", "7"])
    assert result.exit_code == 0, result.output
    lines = dict(line.strip().split("  ", 1) for line in result.output.splitlines() if "  " in line.strip())
    assert lines["vision to Redis"].strip().startswith("2.94 GB/s")
    assert "4 GPU each" in lines["LLM pods"]
    for arguments in (["--model", "9B"], ["--model", "78B", "--new-tiles", "2"]):
        result = runner.invoke(app, ["plan", *arguments, "--chats-per-second", "1", "--tiles", "1"])
        assert result.exit_code == 2
