"""`internvl plan`: what a load takes, as a table."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.sizing import plan as sizing
from deploy.sizing.costs import Costs
from deploy.sizing.family import SIZES, config_of
from deploy.sizing.plan import GIB, Load, Machines, Plan

_LOAD, _MACHINES = "The load", "The machines: your own figures"


def plan(
    model: Annotated[str, typer.Option(help=f"{', '.join(SIZES)}, or the folder of a checkpoint.")],
    chats_per_second: Annotated[float, typer.Option(help="Turns a second.", rich_help_panel=_LOAD)],
    tiles: Annotated[int, typer.Option(help="Tiles in a turn's conversation.", rich_help_panel=_LOAD)],
    text_tokens: Annotated[int, typer.Option(help="Tokens of text in it.", rich_help_panel=_LOAD)] = 200,
    reply_tokens: Annotated[int, typer.Option(help="Tokens of the reply.", rich_help_panel=_LOAD)] = 200,
    new_tiles: Annotated[float, typer.Option(help="Share of tiles never seen.", rich_help_panel=_LOAD)] = 1.0,
    cached_prompt: Annotated[float, typer.Option(help="Share of prompt in the KV.", rich_help_panel=_LOAD)] = 0.0,
    picture_bytes: Annotated[int, typer.Option(help="Bytes sent for a tile.", rich_help_panel=_LOAD)] = 500_000,
    gpu_tflops: Annotated[float, typer.Option(help="Sustained TFLOP/s of a GPU.", rich_help_panel=_MACHINES)] = 400.0,
    gpu_bandwidth: Annotated[float, typer.Option(help="Sustained GB/s of it.", rich_help_panel=_MACHINES)] = 2500.0,
    gpu_gib: Annotated[float, typer.Option(help="Its memory.", rich_help_panel=_MACHINES)] = 80.0,
    utilization: Annotated[float, typer.Option(help="How far to load it all.", rich_help_panel=_MACHINES)] = 0.7,
    redis_gib: Annotated[float, typer.Option(help="Memory of a Redis shard.", rich_help_panel=_MACHINES)] = 64.0,
    keep_seconds: Annotated[float, typer.Option(help="Life of an embedding.", rich_help_panel=_MACHINES)] = 3600.0,
) -> None:
    """Say how many pods, GPUs and Redis shards, and how much network a load takes: a first guess, to be measured."""
    try:
        folder = Path(model)
        costs = Costs.of_folder(folder) if folder.is_dir() else Costs.of(config_of(model))
        load = Load(chats_per_second, tiles, text_tokens, reply_tokens, new_tiles, cached_prompt, picture_bytes)
        machines = Machines(
            gpu_tflops, gpu_bandwidth, gpu_gib, utilization, redis_gib=redis_gib, keep_seconds=keep_seconds
        )
        found = sizing.plan(costs, load, machines)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    Console(highlight=False).print(_table(found))


def _table(found: Plan) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in (
        ("vision pods", f"{found.vision_pods}, 1 GPU each"),
        ("LLM pods", f"{found.llm_pods}, {found.gpus_per_llm_pod} GPU each, {found.batch} replies at once"),
        ("  --cache-bytes", f"{found.cache_bytes}"),
        ("GPUs", f"{found.gpus}"),
        ("gateway pods", f"{found.gateway_pods}"),
        ("Redis shards", f"{found.redis_shards}, {found.redis_bytes / GIB:.0f} GiB in all"),
        ("clients to gateway", _rate(found.client_to_gateway)),
        ("vision to Redis", _rate(found.vision_to_redis)),
        ("Redis to LLM", _rate(found.redis_to_llm)),
    ):
        table.add_row(name, value)
    return table


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e9:.2f} GB/s, {bytes_per_second * 8 / 1e9:.1f} Gbit/s"
