"""The demo: everything on this machine, and two questions about an image the model never saw.

    python -m deploy.local.demo [--vllm PYTHON]

The second question shows what the cache is for: the image is neither sent nor encoded again.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from deploy.local.launcher import PROGRAMS, Stack, cancel_on_sigterm, programs_with_vllm, require_model
from deploy.local.options import StackOptions
from deploy.local.process import LaunchError
from deploy.local.progress import StartDisplay
from internvl.client import ChatClient, ChatSession, Finished, Sampling, Started, follow
from internvl.errors import InternvlError

PICTURE = Path(__file__).parent / "demo_model" / "samples" / "seven.png"
QUESTIONS = ("What digit is this?", "What colour is it?")
MAX_TOKENS = 64
DEMO_OPTIONS = StackOptions(port=0)


def main() -> None:
    """Exits with 1 and the cause when the demo cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.demo", description="The demo.")
    parser.add_argument("--vllm", metavar="PYTHON", help="of an environment with vLLM, which then is the LLM's engine")
    python = parser.parse_args().vllm
    programs = PROGRAMS if python is None else programs_with_vllm(python)
    try:
        asyncio.run(demo(Console(highlight=False, soft_wrap=True), programs=programs))
    except (LaunchError, InternvlError) as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


async def demo(
    console: Console, options: StackOptions = DEMO_OPTIONS, *, programs: Mapping[str, tuple[str, ...]] = PROGRAMS
) -> None:
    """Starts, asks twice, stops."""
    require_model(options)
    cancel_on_sigterm()
    console.print("[bold]Starting three services and a Redis on this machine[/bold]")
    with StartDisplay(console) as display:
        async with Stack(options, on_change=display.show, programs=programs) as stack:
            display.finish("")
            async with ChatClient(stack.address) as client:
                await _converse(console, client)
            stopping = time.monotonic()
    console.print(f"[dim]stopped after {time.monotonic() - stopping:.1f} s; nothing is left running[/dim]")
    console.print(
        "\n[bold]Next[/bold]   internvl up     serve on port 50050 (--model for the real InternVL3)"
        "\n       internvl chat   talk to it, with images"
    )


async def _converse(console: Console, client: ChatClient) -> None:
    info = await client.model_info()
    shown = PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE
    console.print(f"[bold]model[/bold]    {info.model}")
    console.print(f"[bold]image[/bold]    {shown}, a handwritten digit it never saw in training\n")
    session = ChatSession(client, sampling=Sampling(max_tokens=MAX_TOKENS))
    await _turn(console, session, PICTURE, QUESTIONS[0])
    for question in QUESTIONS[1:]:
        await _turn(console, session, question)


async def _turn(console: Console, session: ChatSession, *parts: Path | str) -> None:
    console.print(Text(f"  > {parts[-1]}", style="cyan"))
    console.print("    ", end="")

    def write(text: str) -> None:
        console.print(Text(text), end="")
        console.file.flush()

    started, finished = await follow(session.ask(*parts), write)
    console.print()
    console.print(f"    [dim]{_figures(started, finished)}[/dim]\n")


def _figures(started: Started, finished: Finished) -> str:
    cached = all(media.embedding_cached for media in started.media)
    encode = finished.timing.encode_seconds
    origin = "from the cache" if cached else "made now"
    return (
        f"first token after {finished.timing.first_token_seconds:.3f} s, "
        f"embedding {origin} ({encode:.3f} s), "
        f"{finished.usage.visual_token_count} visual tokens, "
        f"{finished.usage.cached_token_count} of {finished.usage.prompt_token_count} prompt tokens reused"
    )


if __name__ == "__main__":
    main()
