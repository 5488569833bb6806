"""The client for code without an event loop: the same calls, carried out by one loop in a thread of its own.

    with SyncChatClient("127.0.0.1:50050") as client:
        session = client.session()
        for event in session.ask("How many circles are there?", Path("image.png")):
            ...

Nothing is implemented twice: each method hands its work to ChatClient. A client may be used from any thread.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from internvl.client.chat_client import DEFAULT_ADDRESS, ChatClient
from internvl.client.events import Event
from internvl.client.messages import Message, Piece, Sampling, Visual
from internvl.client.session import ChatSession
from internvl.client.tools import ToolCall, Tools
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.transport.channel import DEFAULT_KEEPALIVE, Keepalive
from internvl.transport.tls import TlsFiles

Answer = TypeVar("Answer")


class SyncChatClient:
    """One gateway. Open while its context lasts."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        tls: TlsFiles | None = None,
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
    ) -> None:
        """As ChatClient. Raises ValueError for unusable TLS files."""
        self._thread = _LoopThread()
        try:
            self._client = self._thread.run(_opened(address, api_key, tls, keepalive))
        except BaseException:
            self._thread.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all calls."""
        self._thread.run(self._client.close())
        self._thread.close()

    def chat(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        visual: Visual | None = None,
        tools: Tools | None = None,
        timeout: float | None = 300.0,
    ) -> Generator[Event, None, None]:
        """As ChatClient.chat. Closing the iterator, or leaving it, stops the reply on the server, too."""
        events = self._client.chat(messages, sampling=sampling, visual=visual, tools=tools, timeout=timeout)
        return self._thread.iterate(events)

    def upload(self, data: bytes, kind: Literal["image", "video"] = "image", *, timeout: float | None = None) -> str:
        """As ChatClient.upload."""
        return self._thread.run(self._client.upload(data, kind, timeout=timeout))

    def model_info(self, *, wait_seconds: float = 5.0) -> ModelInfo:
        """As ChatClient.model_info."""
        return self._thread.run(self._client.model_info(wait_seconds=wait_seconds))

    def session(
        self,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        visual: Visual | None = None,
        tools: Tools | None = None,
    ) -> "SyncChatSession":
        """A conversation, as ChatSession."""
        session = ChatSession(self._client, system=system, sampling=sampling, visual=visual, tools=tools)
        return SyncChatSession(session, self._thread)


class SyncChatSession:
    """A conversation; made by SyncChatClient.session."""

    def __init__(self, session: ChatSession, thread: "_LoopThread") -> None:
        self._session = session
        self._thread = thread

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history, with the bytes of every file."""
        return self._session.messages

    def ask(self, *parts: Piece, timeout: float | None = 300.0) -> Generator[Event, None, None]:
        """As ChatSession.ask."""
        return self._thread.iterate(self._session.ask(*parts, timeout=timeout))

    def give_results(self, results: Mapping[str, str], timeout: float | None = 300.0) -> Generator[Event, None, None]:
        """As ChatSession.give_results."""
        return self._thread.iterate(self._session.give_results(results, timeout=timeout))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """As ChatSession.calls."""
        return self._session.calls


class _LoopThread:
    """An event loop that runs what other threads hand it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="internvl-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The result. An interrupt of the caller cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, events: AsyncGenerator[Event, None]) -> Generator[Event, None, None]:
        """Each event as it comes."""
        try:
            while (event := self.run(anext(events, None))) is not None:
                yield event
        finally:
            self.run(events.aclose())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _opened(address: str, api_key: str | None, tls: TlsFiles | None, keepalive: Keepalive) -> ChatClient:
    return ChatClient(address, api_key=api_key, tls=tls, keepalive=keepalive)
