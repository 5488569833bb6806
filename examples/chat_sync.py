"""A question about an image, without an event loop.

python examples/chat_sync.py IMAGE [HOST:PORT]
"""

import os
import sys
from pathlib import Path

from internvl.client import DEFAULT_ADDRESS, Delta, SyncChatClient


def main(image: Path, address: str = DEFAULT_ADDRESS) -> None:
    with SyncChatClient(address, api_key=os.environ.get("INTERNVL_CLI_API_KEY")) as client:
        for event in client.session().ask(image, "What digit is this?"):
            if isinstance(event, Delta):
                print(event.text, end="", flush=True)
    print()


if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
main(Path(sys.argv[1]), *sys.argv[2:])
