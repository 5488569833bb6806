"""A conversation about an image, with an event loop.

python examples/chat.py IMAGE [HOST:PORT]
"""

import asyncio
import os
import sys
from pathlib import Path

from internvl.client import DEFAULT_ADDRESS, ChatClient, ChatSession, Delta, Finished, Visual


async def main(image: Path, address: str = DEFAULT_ADDRESS) -> None:
    async with ChatClient(address, api_key=os.environ.get("INTERNVL_CLI_API_KEY")) as client:
        session = ChatSession(client, visual=Visual(position_increment=1 / 4))
        for parts in ((image, "What digit is this?"), ("What colour is it?",)):
            async for event in session.ask(*parts, timeout=60):
                if isinstance(event, Delta):
                    print(event.text, end="", flush=True)
                elif isinstance(event, Finished):
                    print(f"   ({event.usage.cached_token_count} of {event.usage.prompt_token_count} tokens reused)")


if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
