"""Whether a request is let in. Refuses at once: a caller who knows can wait or go elsewhere.

    async with admission.enter(tenant, size_bytes=request.ByteSize()) as visit:
        ... chat.answer(request, tenant=tenant.name, spend=visit.spend, ...) ...

Transport-neutral: gRPC and HTTP enter by the same door.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.tenancy.rates import Rates
from gateway.tenancy.tenants import Tenant
from internvl.errors import QueueFull, RateLimited, RequestTooLarge


class Visit:
    """One request that was let in."""

    def __init__(self) -> None:
        self.token_count = 0

    def spend(self, token_count: int) -> None:
        """The request has used so many tokens more."""
        self.token_count += token_count


class Admission:
    """Counts requests from their arrival to their end, whatever the end is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rates = Rates()
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        """Running requests per tenant."""

    @property
    def running(self) -> int:
        """Requests that are being answered. From any thread: a metrics scrape comes from its own."""
        return sum(tuple(self._requests.values()))

    @asynccontextmanager
    async def enter(self, tenant: Tenant, *, size_bytes: int) -> AsyncIterator[Visit]:
        """Raises QueueFull, RateLimited (both with when to come again), and RequestTooLarge."""
        self._check(tenant, size_bytes)
        self._requests[tenant.name] += 1
        self._bytes[tenant.name] += size_bytes
        visit = Visit()
        try:
            await self._rates.take_request(tenant)
            yield visit
        finally:
            self._leave(tenant, size_bytes)
            await self._rates.spend_tokens(tenant, visit.token_count)

    def _check(self, tenant: Tenant, size_bytes: int) -> None:
        limits = tenant.limits
        if self.running >= self._limit:
            raise QueueFull(f"{self._limit} requests are being answered already")
        if limits.concurrent_requests is not None and self._requests[tenant.name] >= limits.concurrent_requests:
            message = f"{limits.concurrent_requests} requests of this tenant are being answered already"
            raise RateLimited(message, metadata={"limit": "concurrent_requests"})
        if limits.bytes_in_flight is not None:
            if size_bytes > limits.bytes_in_flight:
                raise RequestTooLarge(f"{size_bytes} bytes, this tenant may send {limits.bytes_in_flight} at a time")
            if self._bytes[tenant.name] + size_bytes > limits.bytes_in_flight:
                message = f"{limits.bytes_in_flight} bytes of this tenant are in flight already"
                raise RateLimited(message, metadata={"limit": "bytes_in_flight"})

    def _leave(self, tenant: Tenant, size_bytes: int) -> None:
        self._requests[tenant.name] -= 1
        self._bytes[tenant.name] -= size_bytes
        if not self._requests[tenant.name]:
            del self._requests[tenant.name], self._bytes[tenant.name]
