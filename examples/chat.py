"""A conversation about an image, with an event loop.

python examples/chat.py image.png 127.0.0.1:50050
"""

import asyncio
import os
import sys
from pathlib import Path

from internvl.client import ChatClient, ChatSession, Delta, Finished, Visual


async def main(picture: Path, address: str) -> None:
    async with ChatClient(address, api_key=os.environ.get("INTERNVL_API_KEY")) as client:
        session = ChatSession(client, visual=Visual(position_increment=1 / 4))
        for parts in ((picture, "What digit is this?"), ("What colour is it?",)):
            async for event in session.ask(*parts, timeout=60):
                if isinstance(event, Delta):
                    print(event.text, end="", flush=True)
                elif isinstance(event, Finished):
                    print(f"   ({event.usage.cached_token_count} of {event.usage.prompt_token_count} tokens reused)")


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
