"""A reply from as many calls as it takes: the one loop over whatever may break it off.

a replica fails, drains or hangs    another one resumes after the tokens that are there
embeddings are gone                 they are made again, once for each call that gets anywhere
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.metrics import MOVED_REPLIES
from gateway.replicas.reply import Reply
from gateway.replicas.route import Route
from internvl.errors import EmbeddingNotFound, InternvlError
from internvl.llm.v1 import llm_pb2
from internvl.transport.deadline import Deadline
from shared.serving.request_context import outgoing_metadata

if TYPE_CHECKING:
    from internvl.llm.v1.llm_pb2_grpc import LlmServiceAsyncStub

log = logging.getLogger(__name__)
Restore = Callable[[EmbeddingNotFound], Awaitable[llm_pb2.GenerateRequest]]
"""Makes embeddings again; returns the request that refers to the new ones."""


async def resumed(
    reply: Reply, route: "Route[LlmServiceAsyncStub]", deadline: Deadline, restore: Restore
) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
    """Events of `reply` that are still to come. Closing the iterator cancels the call."""
    may_restore = True
    while True:
        replica = await route.replica(deadline)
        call = replica.stub.Generate(reply.request, timeout=deadline.remaining(), metadata=outgoing_metadata())
        try:
            with replica.calling(call) as in_flight:
                async for event in call:
                    in_flight.heard()
                    if event.HasField("delta"):
                        route.progressed()
                        may_restore = True
                    for each in reply.take(event):
                        yield each
            return
        except EmbeddingNotFound as error:
            if not may_restore:
                raise
            may_restore = False
            reply.replace(await restore(error))
        except InternvlError as error:
            await route.again(replica, error, deadline)
            _note(reply, replica.address, error)
        reply.restart()


def _note(reply: Reply, address: str, error: InternvlError) -> None:
    if reply.token_count:
        MOVED_REPLIES.inc()
    doing = "reply resumed on another replica" if reply.token_count else "reply restarted"
    log.info(doing, extra={"failed": address, "cause": error.reason(), "token_count": reply.token_count})
