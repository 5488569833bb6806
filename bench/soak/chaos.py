"""Faults of Redis, of the path to it, and of the replicas, one after the other."""

import asyncio
import random
import time
from collections.abc import Callable

from bench.soak.readers import Outcome
from bench.soak.replicas import Replicas
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.redis import RedisProcess


class Chaos:
    """One fault after the other."""

    def __init__(self, redis: RedisProcess, proxy: FaultyProxy, replicas: Replicas, outcome: Outcome) -> None:
        self._redis, self._proxy, self._replicas, self._outcome = redis, proxy, replicas, outcome
        self._faults: dict[str, Callable[[random.Random], None]] = {
            "flushed": self._flush,
            "full": self._fill,
            "evicting": self._evict,
            "bits flipped": self._flip,
            "values exchanged": self._exchange,
        }

    async def run(self, generator: random.Random, until: float, *, seconds_each: float, kills: bool) -> None:
        """In rounds of all of them until that time of the monotonic clock; in the end all is well again."""
        names = [*self._faults, *(f"replies {fault.name.lower()}" for fault in Fault if fault is not Fault.NONE)]
        names += ["restarted"] + ["replica killed"] * kills
        while not self._outcome.faults or time.monotonic() < until:
            generator.shuffle(names)
            for name in names:
                self._outcome.faults[name] += 1
                await self._apply(name, generator, seconds_each)

    async def _apply(self, name: str, generator: random.Random, seconds: float) -> None:
        if name == "restarted":
            self._redis.stop()
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._redis.start)
        elif name == "replica killed":
            await self._replicas.kill(0)
        elif name.startswith("replies "):
            self._proxy.fault = Fault[name.removeprefix("replies ").upper()]
            await asyncio.sleep(seconds)
            self._proxy.fault = Fault.NONE
        else:
            await asyncio.to_thread(self._faults[name], generator)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._relax)

    def _flush(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            client.flushall()

    def _fill(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            client.config_set("maxmemory", "1")

    def _relax(self) -> None:
        with self._redis.client() as client:
            client.config_set("maxmemory", "0")

    def _evict(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            for _ in range(20):
                if (name := client.randomkey()) is not None:
                    client.delete(name)

    def _flip(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            for _ in range(20):
                name = client.randomkey()
                if name is not None and not name.startswith(b"internvl:lease"):
                    bit = generator.randrange(8 * client.strlen(name) or 1)
                    client.setbit(name, bit, 1 - client.getbit(name, bit))

    def _exchange(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            for _ in range(10):
                one, other = client.randomkey(), client.randomkey()
                if one is not None and other is not None:
                    values = client.mget([one, other])
                    if None not in values:
                        client.mset({one: values[1], other: values[0]})
