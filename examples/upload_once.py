"""One upload, many questions at once: each refers to the image by its id.

python examples/upload_once.py IMAGE [HOST:PORT]
"""

import asyncio
import os
import sys
from pathlib import Path

from internvl.client import DEFAULT_ADDRESS, ChatClient, Delta, Image, Sampling, user
from internvl.errors import InternvlError, MediaExpired


async def ask(client: ChatClient, identifier: str, question: str) -> str:
    events = client.chat([user(Image(id=identifier), question)], sampling=Sampling(max_tokens=32), timeout=60)
    return "".join([event.text async for event in events if isinstance(event, Delta)])


async def main(image: bytes, address: str = DEFAULT_ADDRESS) -> None:
    async with ChatClient(address, api_key=os.environ.get("INTERNVL_CLI_API_KEY")) as client:
        identifier = await client.upload(image)
        questions = ("What digit is this?", "What colour is it?")
        for question, answer in zip(
            questions, await asyncio.gather(*(ask(client, identifier, question) for question in questions)), strict=True
        ):
            print(f"{question} {answer}")
        try:
            await ask(client, "media_" + "0" * 48, "?")
        except MediaExpired as error:
            print(f"{error.reason()}: send the bytes again")
        except InternvlError as error:
            print(f"{error.reason()} at {error.field}: {error.message}")


if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
asyncio.run(main(Path(sys.argv[1]).read_bytes(), *sys.argv[2:]))
