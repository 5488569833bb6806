"""Requests and tokens a minute of each tenant, counted by the library `limits`.

Requests are counted over a sliding minute when they come. Tokens are counted when they are known, as a reply ends: a
tenant is let in while its minute has tokens left, and may overdraw it by what was under way then.
"""

import time
from collections.abc import Mapping
from types import MappingProxyType

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from gateway.tenancy.tenants import Tenant
from internvl.errors import RateLimited

_SHORTEST_WAIT_SECONDS = 0.1
_UNITS: Mapping[str, str] = MappingProxyType({"requests": "requests_per_minute", "tokens": "tokens_per_minute"})


class Rates:
    """Counts of this process."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        self._requests = SlidingWindowCounterRateLimiter(storage)
        self._tokens = FixedWindowRateLimiter(storage)  # the one that counts past its limit: what is spent is spent

    async def take_request(self, tenant: Tenant) -> None:
        """Counts a request. Raises RateLimited when the minute has none left, or no tokens."""
        tokens = _item(tenant.limits.tokens_per_minute, "tokens")
        if tokens is not None and not await self._tokens.test(tokens, tenant.name):
            raise await _refusal(self._tokens, tokens, tenant, "tokens")
        requests = _item(tenant.limits.requests_per_minute, "requests")
        if requests is not None and not await self._requests.hit(requests, tenant.name):
            raise await _refusal(self._requests, requests, tenant, "requests")

    async def spend_tokens(self, tenant: Tenant, count: int) -> None:
        """Counts tokens, also beyond the limit."""
        item = _item(tenant.limits.tokens_per_minute, "tokens")
        if item is not None and count > 0:
            await self._tokens.hit(item, tenant.name, cost=count)


def _item(amount: int | None, unit: str) -> RateLimitItem | None:
    return None if amount is None else RateLimitItemPerMinute(amount, namespace=unit)


async def _refusal(limiter: RateLimiter, item: RateLimitItem, tenant: Tenant, unit: str) -> RateLimited:
    window = await limiter.get_window_stats(item, tenant.name)
    seconds = max(window.reset_time - time.time(), _SHORTEST_WAIT_SECONDS)
    return RateLimited(
        f"{item.amount} {unit} a minute are used up", retry_after_seconds=seconds, metadata={"limit": _UNITS[unit]}
    )
