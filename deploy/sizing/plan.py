"""Pods, GPUs, shards and network that a load takes. Pure arithmetic on costs, load and machines."""

import math
from dataclasses import dataclass

from deploy.sizing.costs import Costs

GIB = 1 << 30


@dataclass(frozen=True)
class Load:
    """Requests, on average."""

    chats_per_second: float
    """Turns, that is: each is one reply."""
    tiles: int
    """Tiles of all images in a turn's conversation."""
    text_tokens: int = 200
    reply_tokens: int = 200
    new_tiles: float = 1.0
    """Share of the tiles that are new to the stack."""
    cached_prompt: float = 0.0
    """Share of the prompt whose keys and values a replica still has."""
    picture_bytes: int = 500_000
    """Bytes sent for one tile: about those of a JPEG of a tile's size and its thumbnail."""

    def __post_init__(self) -> None:
        if self.chats_per_second <= 0:
            raise ValueError("chats per second must be above 0")
        if self.tiles < 0 or self.text_tokens < 1 or self.reply_tokens < 1 or self.picture_bytes < 0:
            raise ValueError("tiles and image bytes must be 0 or more, text and reply tokens 1 or more")
        if not 0 <= self.new_tiles <= 1 or not 0 <= self.cached_prompt < 1:
            raise ValueError("shares must be 0 to 1, and of a prompt below 1")


@dataclass(frozen=True)
class Machines:
    """Figures that the operator has measured, or takes from a data sheet. The defaults are for GPUs of 80 GB."""

    gpu_tflops: float = 400.0
    """Rate that one GPU sustains on large matrices."""
    gpu_gigabytes_per_second: float = 2500.0
    """Rate that one GPU sustains reading its memory."""
    gpu_gib: float = 80.0
    utilization: float = 0.7
    """How far to load anything; the rest is for bursts and for a replica that is gone."""
    max_running: int = 64
    """Requests of one step: the setting of the LLM service."""
    redis_get_gigabytes_per_second: float = 1.3
    """One shard, values of 4 MiB."""
    redis_set_gigabytes_per_second: float = 0.3
    redis_gib: float = 64.0
    """Memory of one shard."""
    keep_seconds: float = 3600.0
    """How long an embedding should stay."""
    gateway_chats_per_second: float = 100.0
    """Chats a second of one gateway process."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) <= 0:
            raise ValueError("figures of machines must be above 0")
        if self.utilization > 1:
            raise ValueError("utilization must be 1 at most")


@dataclass(frozen=True)
class Plan:
    """Machines that a load takes; network in bytes a second."""

    vision_pods: int
    """One GPU each."""
    llm_pods: int
    gpus_per_llm_pod: int
    batch: int
    """Replies a pod writes at once."""
    cache_bytes: int
    """Keys and values on each GPU: the setting of the LLM service."""
    gateway_pods: int
    redis_shards: int
    redis_bytes: float
    client_to_gateway: float
    vision_to_redis: float
    redis_to_llm: float

    @property
    def gpus(self) -> int:
        return self.vision_pods + self.llm_pods * self.gpus_per_llm_pod


def plan(costs: Costs, load: Load, machines: Machines) -> Plan:
    """Raises ValueError when a reply does not fit into the memory that weights leave."""
    flops = machines.gpu_tflops * 1e12 * machines.utilization
    tiles = load.chats_per_second * load.tiles
    prompt = load.text_tokens + load.tiles * costs.tokens_per_tile
    written = tiles * load.new_tiles * costs.tile_bytes
    read = tiles * (1 - load.cached_prompt) * costs.tile_bytes
    gpus = _gpus_per_pod(costs, machines)
    cache = (machines.gpu_gib * 0.9 * GIB - costs.weight_bytes / gpus) * 0.9
    context = prompt + load.reply_tokens
    batch = min(machines.max_running, int(cache * gpus // (context * costs.token_kv_bytes)))
    if batch < 1:
        raise ValueError(f"a conversation of {context} tokens does not fit into the memory of {gpus} GPUs")
    gpu_seconds = _prefill_seconds(costs, load, prompt, flops) + load.reply_tokens * _token_seconds(
        costs, batch, context, machines
    )
    kept = min(written * machines.keep_seconds, tiles * machines.keep_seconds * costs.tile_bytes)
    busy = written / machines.redis_set_gigabytes_per_second + read / machines.redis_get_gigabytes_per_second
    return Plan(
        vision_pods=math.ceil(tiles * load.new_tiles * costs.tile_flops / flops),
        llm_pods=math.ceil(load.chats_per_second * gpu_seconds / gpus),
        gpus_per_llm_pod=gpus,
        batch=batch,
        cache_bytes=int(cache),
        gateway_pods=math.ceil(load.chats_per_second / machines.gateway_chats_per_second / machines.utilization),
        redis_shards=max(math.ceil(busy / 1e9 / machines.utilization), math.ceil(kept / machines.redis_gib / GIB)),
        redis_bytes=kept,
        client_to_gateway=tiles * load.new_tiles * load.picture_bytes,
        vision_to_redis=written,
        redis_to_llm=read,
    )


def _gpus_per_pod(costs: Costs, machines: Machines) -> int:
    """The least power of two that the weights fill to two thirds at most."""
    gpus = 1
    while costs.weight_bytes > gpus * machines.gpu_gib * GIB * 2 / 3:
        gpus *= 2
    return gpus


def _prefill_seconds(costs: Costs, load: Load, prompt: int, flops: float) -> float:
    """GPU seconds of one prompt."""
    return costs.prefill_flops(prompt, int(prompt * load.cached_prompt)) / flops


def _token_seconds(costs: Costs, batch: int, context: int, machines: Machines) -> float:
    """GPU seconds of one token of a reply: weights are read once a step for all, keys and values for each."""
    read = costs.weight_bytes / batch + context * costs.token_kv_bytes
    computed = costs.token_flops + costs.head_flops + context * costs.attention_flops
    seconds = max(read / machines.gpu_gigabytes_per_second / 1e9, computed / machines.gpu_tflops / 1e12)
    return seconds / machines.utilization
