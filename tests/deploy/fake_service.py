"""A service of the stack without a model: `python -m tests.deploy.fake_service vision`."""

import asyncio
import sys

from internvl.llm.v1 import llm_pb2_grpc
from internvl.vision.v1 import vision_pb2_grpc
from shared.serving.rpc import Server
from shared.serving.telemetry import LoadingLog, configure_logging
from tests.support.fakes import FakeLlm, FakeVision, LoopbackSettings


async def main(name: str) -> None:
    configure_logging(name, "info")
    server = Server(LoopbackSettings())
    LoadingLog(name)(1, 2)
    if name == "vision":
        vision_pb2_grpc.add_VisionServiceServicer_to_server(FakeVision(), server.grpc)
    else:
        llm_pb2_grpc.add_LlmServiceServicer_to_server(FakeLlm(), server.grpc)
    await server.run()


asyncio.run(main(sys.argv[1]))
