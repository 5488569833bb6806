"""Errors of a call to a service, translated to those of `internvl.errors`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from internvl.errors import BackendUnavailable
from internvl.transport.status import from_call_error


@contextmanager
def translated() -> Iterator[None]:
    """Around a call. gRPC raises CancelledError also for a call that the *peer* cancelled: that is a peer that went."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_call_error(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BackendUnavailable("the service ended the call") from error
