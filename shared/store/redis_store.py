"""A Redis-compatible server, sentinels' master or cluster as a ValueStore.

Every call ends within `timeout_seconds`. A call that runs into it marks the store as silent: from then on calls fail
at once, and only a ping in the background waits for it, until it answers again. A store that refuses (connection
closed, memory full, no permission) fails just the call.

What a Redis user (ACL) needs, on keys `internvl:*`:
    +mget +set +del +eval +pexpire +get +ping +select, and in a cluster +cluster|slots +command
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from internvl.errors import StoreUnavailable
from internvl.transport.tasks import stop
from shared.serving.metrics import STORE_FAILURES
from shared.store.framing import Value
from shared.store.redis_parser import DirectParser
from shared.store.redis_url import RedisUrl, Topology
from shared.store.value_store import ValueStore

log = logging.getLogger(__name__)
_MAX_CONNECTIONS = 64
_PROBE_SECONDS = 0.25
_FAILURES = (RedisError, OSError, ValueError, TypeError, AttributeError)
"""The last three: what nonsense from the server, and its own races at an outage, do to redis-py."""
_TOUCH = "local n = 0 for _, k in ipairs(KEYS) do n = n + redis.call('PEXPIRE', k, ARGV[1]) end return n"
_ACQUIRE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisStore(ValueStore):
    """`url` as shared/store/redis_url.py has it; ValueError if it is none."""

    def __init__(self, url: str, *, timeout_seconds: float = 2.0) -> None:
        self._client, self._sentinels = _open(RedisUrl.parse(url), timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._connections = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._probe: asyncio.Task[None] | None = None
        self._finding_nodes = asyncio.Lock()
        self._knows_nodes = False

    @property
    def is_silent(self) -> bool:
        """Whether it has stopped to answer: calls fail at once until it does again."""
        return self._probe is not None

    async def get(self, names: Sequence[str]) -> list[Value | None]:
        if not names:
            return []
        values = await self._ask("MGET", *names)
        if not isinstance(values, list) or len(values) != len(names) or not all(map(_is_value, values)):
            raise _unavailable("another reply than was asked for")
        return values

    async def put(self, values: Mapping[str, bytes], seconds: float) -> None:
        for name, value in values.items():
            await self._ask("SET", name, value, "PX", _milliseconds(seconds))

    async def touch(self, names: Sequence[str], seconds: float) -> int:
        return _count(await self._ask("EVAL", _TOUCH, len(names), *names, _milliseconds(seconds)))

    async def delete(self, names: Sequence[str]) -> None:
        await self._ask("DEL", *names)

    async def acquire(self, name: str, token: bytes, seconds: float) -> bool:
        return _count(await self._ask("EVAL", _ACQUIRE, 1, name, token, _milliseconds(seconds))) == 1

    async def release(self, name: str, token: bytes) -> None:
        await self._ask("EVAL", _RELEASE, 1, name, token)

    async def ping(self) -> None:
        # Not PING, which a cluster's client sends to every node.
        await self.get(["internvl:{ping}"])

    async def close(self) -> None:
        if self._probe is not None:
            await stop([self._probe])
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _ask(self, *command: Any) -> Any:
        """One command's reply. Foreign errors become ours here; the message names no host and no key."""
        if self._probe is not None:
            raise _unavailable("it did not answer before")
        await self._wait_for_turn()
        try:
            return await self._send(command)
        except (TimeoutError, RedisTimeoutError) as error:
            self._fall_silent()
            raise _unavailable("no answer in time") from error
        except _FAILURES as error:
            raise _unavailable(type(error).__name__) from error
        finally:
            self._connections.release()

    def _fall_silent(self) -> None:
        if self._probe is None:
            self._probe = asyncio.create_task(self._wait_for_answer())

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._connections.acquire()
        except TimeoutError as error:
            raise _unavailable("too many calls wait for it") from error

    async def _send(self, command: tuple[Any, ...]) -> Any:
        async with asyncio.timeout(self._timeout_seconds):
            if isinstance(self._client, RedisCluster):
                await self._find_nodes(self._client)
            return await self._client.execute_command(*command)

    async def _find_nodes(self, cluster: RedisCluster) -> None:
        """Alone: commands that make redis-py's client look for its nodes all at once take each other's connections."""
        if not self._knows_nodes:
            async with self._finding_nodes:
                await cluster.initialize()
                self._knows_nodes = True

    async def _wait_for_answer(self) -> None:
        log.warning("the embedding store does not answer in time")
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            try:
                await self._send(("MGET", "internvl:{ping}"))
            except (TimeoutError, *_FAILURES):
                continue
            log.info("the embedding store answers again")
            self._probe = None
            return


def _open(url: RedisUrl, timeout_seconds: float) -> tuple[Redis | RedisCluster, Sequence[Redis]]:
    """Clients of the data's server, and of the sentinels that name it."""
    options: dict[str, Any] = {
        **url.credentials,
        "protocol": 2,
        "driver_info": None,  # no CLIENT SETINFO: servers before 7.2 do not know it, and users need no right to it
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # A pooled connection that died with its server is noticed when it is used: once more, on a new one.
        "retry": Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), retries=1),
    }
    direct = {"parser_class": DirectParser, "db": url.database}
    tls: dict[str, Any] = {"ssl": True, **url.tls_options} if url.tls else {}
    match url.topology:
        case Topology.SERVER:
            host, port = url.hosts[0]
            kind = SSLConnection if url.tls else Connection
            return _redis(kind, host=host, port=port, **options, **direct, **url.tls_options), ()
        case Topology.UNIX:
            return _redis(UnixDomainSocketConnection, path=url.path, **options, **direct), ()
        case Topology.SENTINEL:
            hurried = {  # another sentinel is asked instead
                "socket_timeout": timeout_seconds / 4,
                "socket_connect_timeout": timeout_seconds / 4,
                "retry": Retry(NoBackoff(), 0),
            }
            make_sentinel: Any = Sentinel
            sentinel = make_sentinel(list(url.hosts), sentinel_kwargs=tls | hurried | url.sentinel_credentials)
            return sentinel.master_for(url.service, **options, **direct, **tls), sentinel.sentinels
        case Topology.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in url.hosts]
            cluster = RedisCluster(startup_nodes=nodes, **options, **tls)
            cluster.connection_kwargs["parser_class"] = DirectParser  # of the nodes it will find
            return cluster, ()


def _redis(kind: type[AbstractConnection], **options: Any) -> Redis:
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options))


def _is_value(value: object) -> bool:
    return value is None or isinstance(value, (bytes, bytearray))


def _count(reply: object) -> int:
    if not isinstance(reply, int):
        raise _unavailable("another reply than was asked for")
    return reply


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _unavailable(cause: str) -> StoreUnavailable:
    STORE_FAILURES.inc()
    return StoreUnavailable(f"the embedding store does not answer ({cause})")
