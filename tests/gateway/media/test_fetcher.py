"""Pictures from addresses, over a real HTTP server on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.media.fetcher import Fetcher
from gateway.media.hosts import MediaHosts
from gateway.request_limits import RequestLimits
from internvl.chat.v1 import chat_pb2
from internvl.errors import BadMessages, ImageTooLarge, MediaUnreachable, UriNotAllowed, VideoTooLarge

LIMITS = RequestLimits(message_count=8, part_count=16, media_count=8, inline_media_bytes=1000)


class Site:
    """Answers each path with raw bytes, and counts who asks."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.gate: asyncio.Event | None = None
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def has(self, path: str, body: bytes = b"a picture", status: str = "200 OK", *headers: str) -> str:
        """Its address."""
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
        self.pages[path] = "\r\n".join(lines).encode() + body
        return self.url(path)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                self.asked.append(path)
                self.heads.append(head.decode())
                if self.gate is not None:
                    await self.gate.wait()
                writer.write(self.pages[path])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[None]:
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0, family=socket.AF_INET)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with serving(site):
        yield site


@pytest.fixture
async def fetcher(site: Site) -> AsyncIterator[Fetcher]:
    hosts = MediaHosts([f"http://localhost:{site.port}"])
    async with Fetcher(hosts, seconds=5, allow_private=True) as fetcher:
        yield fetcher


def request(*uris: str, clip: str | None = None) -> chat_pb2.ChatRequest:
    parts = [chat_pb2.Part(text="look")] + [chat_pb2.Part(image=chat_pb2.Image(uri=uri)) for uri in uris]
    if clip is not None:
        parts.append(chat_pb2.Part(video=chat_pb2.Video(uri=clip)))
    return chat_pb2.ChatRequest(messages=[chat_pb2.Message(parts=parts)])


async def test_addresses_become_bytes_and_equal_ones_are_fetched_once(fetcher: Fetcher, site: Site) -> None:
    one, other = site.has("/one.png"), site.has("/two.mp4?a=b", b"a clip")
    asked = request(one, one, clip=other)
    filled = await fetcher.filled(asked, LIMITS)
    text, first, second, clip = filled.messages[0].parts
    assert (text.text, first.image.data, second.image.data, clip.video.data) == (
        "look",
        b"a picture",
        b"a picture",
        b"a clip",
    )
    assert asked == request(one, one, clip=other)
    assert sorted(site.asked) == ["/one.png", "/two.mp4?a=b"]
    assert f"host: localhost:{site.port}\r\n" in site.heads[0].lower()


async def test_a_request_without_addresses_is_left_alone(fetcher: Fetcher) -> None:
    asked = chat_pb2.ChatRequest(messages=[chat_pb2.Message(parts=[chat_pb2.Part(text="hello")])])
    assert await fetcher.filled(asked, LIMITS) is asked


async def test_redirects_are_followed_where_they_are_allowed(fetcher: Fetcher, site: Site) -> None:
    site.has("/b/picture.png")
    first = site.has("/a/one", b"", "302 Found", "location: ../b/two")
    site.has("/b/two", b"", "307 Temporary Redirect", f"location: {site.url('/b/picture.png')}")
    filled = await fetcher.filled(request(first), LIMITS)
    assert filled.messages[0].parts[1].image.data == b"a picture"


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest", "https://localhost/", "file:///etc/passwd", "//evil.example/", "\\x"]
)
async def test_redirects_elsewhere_are_not(fetcher: Fetcher, site: Site, location: str) -> None:
    uri = site.has("/one", b"", "302 Found", f"location: {location}")
    with pytest.raises(UriNotAllowed):
        await fetcher.filled(request(uri), LIMITS)
    assert site.asked == ["/one"]


async def test_redirects_end(fetcher: Fetcher, site: Site) -> None:
    uri = site.has("/round", b"", "302 Found", "location: /round")
    with pytest.raises(MediaUnreachable, match="redirects"):
        await fetcher.filled(request(uri), LIMITS)
    assert len(site.asked) == 4


async def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_connected_to(site: Site) -> None:
    hosts = MediaHosts([f"http://localhost:{site.port}"])
    async with Fetcher(hosts, seconds=5, allow_private=False) as fetcher:
        with pytest.raises(UriNotAllowed, match="not public") as refused:
            await fetcher.filled(request(site.has("/one.png")), LIMITS)
    assert refused.value.field == "messages[0].parts[1].image.uri"
    assert site.asked == []


@pytest.mark.parametrize(("sizes", "fits"), [((500, 500), True), ((500, 501), False), ((1001,), False)])
async def test_all_files_of_a_request_have_a_size_together(
    fetcher: Fetcher, site: Site, sizes: tuple[int, ...], fits: bool
) -> None:
    uris = [site.has(f"/{index}", b"x" * size) for index, size in enumerate(sizes)]
    if fits:
        filled = await fetcher.filled(request(*uris), LIMITS)
        assert [len(part.image.data) for part in filled.messages[0].parts[1:]] == list(sizes)
        return
    with pytest.raises(ImageTooLarge, match="more than 1000 bytes"):
        await fetcher.filled(request(*uris), LIMITS)
    with pytest.raises(VideoTooLarge) as refused:
        await fetcher.filled(request(clip=site.has("/clip", b"x" * 1001)), LIMITS)
    assert refused.value.field == "messages[0].parts[1].video.uri"


async def test_what_does_not_give_a_file_is_said(fetcher: Fetcher, site: Site) -> None:
    site.pages["/junk"] = b"no http at all\r\n\r\n"
    site.pages["/short"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nabc"
    for uri, words in (
        (site.has("/gone", b"", "404 Not Found"), "status 404"),
        (site.has("/zipped", b"x", "200 OK", "content-encoding: gzip"), "encoding"),
        (site.url("/junk"), "does not answer"),
    ):
        with pytest.raises(MediaUnreachable, match=words) as refused:
            await fetcher.filled(request(uri), LIMITS)
        assert refused.value.field == "messages[0].parts[1].image.uri"


async def test_nobody_there(fetcher: Fetcher, site: Site) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with Fetcher(MediaHosts([f"http://localhost:{port}"]), seconds=5, allow_private=True) as other:
        with pytest.raises(MediaUnreachable):
            await other.filled(request(f"http://localhost:{port}/"), LIMITS)
    async with Fetcher(MediaHosts(["no.such.name.invalid"]), seconds=5, allow_private=True) as other:
        with pytest.raises(MediaUnreachable):
            await other.filled(request("https://no.such.name.invalid/"), LIMITS)


async def test_a_site_that_never_answers_costs_its_time_and_no_more(site: Site) -> None:
    site.gate = asyncio.Event()
    hosts = MediaHosts([f"http://localhost:{site.port}"])
    async with Fetcher(hosts, seconds=0.1, allow_private=True) as fetcher:
        with pytest.raises(MediaUnreachable, match=r"within 0\.1 seconds"):
            await fetcher.filled(request(site.has("/one.png")), LIMITS)
    site.gate.set()


async def test_too_many(fetcher: Fetcher, site: Site) -> None:
    with pytest.raises(BadMessages):
        await fetcher.filled(request(*(site.url(f"/{index}") for index in range(9))), LIMITS)
    assert site.asked == []
