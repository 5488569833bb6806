"""`python -m bench.hanging_llm FILE [flags of internvl-llm]`: the LLM service, whose model hangs while FILE is there.

A step that does not return, as of a GPU or a sum over ranks that hangs: the event loop runs on and answers checks.
"""

import sys
import time
from pathlib import Path

from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.request import Request
from llm_service.engine.pytorch.sampler import SampledToken
from llm_service.engine.pytorch.scheduler import Chunk
from llm_service.server import main


def _hang_while_there(file: Path) -> None:
    run = TorchEngine._run

    def hanging(self: TorchEngine, chunks: list[Chunk]) -> dict[Request, SampledToken]:
        while file.exists():
            time.sleep(0.05)
        return run(self, chunks)

    TorchEngine._run = hanging  # type: ignore[method-assign]


if __name__ == "__main__":
    _hang_while_there(Path(sys.argv.pop(1)))
    main()
