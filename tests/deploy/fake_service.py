"""A service of the stack without a model: `python -m tests.deploy.fake_service vision [FINGERPRINT]`."""

import asyncio
import sys

from internvl.llm.v1 import llm_pb2_grpc
from internvl.vision.v1 import vision_pb2_grpc
from shared.serving.rpc import Server
from shared.serving.telemetry import LoadingLog, configure_logging
from tests.support.fakes import FakeLlm, FakeVision, LoopbackSettings, model_info


async def main(name: str, fingerprint: str = "f" * 64) -> None:
    configure_logging(name, "info")
    server = Server(LoopbackSettings())
    LoadingLog(name)(1, 2)
    fake = FakeVision() if name == "vision" else FakeLlm()
    fake.info = model_info(fingerprint)
    if isinstance(fake, FakeVision):
        vision_pb2_grpc.add_VisionServiceServicer_to_server(fake, server.grpc)
    else:
        llm_pb2_grpc.add_LlmServiceServicer_to_server(fake, server.grpc)
    await server.run()


asyncio.run(main(*(each for each in sys.argv[1:3] if not each.startswith("-"))))  # flags of a real one follow
