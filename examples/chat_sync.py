"""The same without an event loop.

python examples/chat_sync.py image.png 127.0.0.1:50050
"""

import os
import sys
from pathlib import Path

from internvl.client import Delta
from internvl.client.sync_client import SyncChatClient

with SyncChatClient(sys.argv[2], api_key=os.environ.get("INTERNVL_API_KEY")) as client:
    session = client.session()
    for event in session.ask(Path(sys.argv[1]), "What digit is this?"):
        if isinstance(event, Delta):
            print(event.text, end="", flush=True)
print()
