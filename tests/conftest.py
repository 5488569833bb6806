"""What all tests may use: a Redis-compatible server, and tiny random checkpoints."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.redis import RedisProcess, server

ROOT = Path(__file__).parent
QUICK = (
    "gateway/media/test_hosts", "gateway/replicas/test_affinity", "gateway/replicas/test_health",
    "gateway/replicas/test_pairing", "gateway/replicas/test_rendezvous", "gateway/replicas/test_reply",
    "gateway/replicas/test_retry", "gateway/tenancy/test_key_file", "gateway/tenancy/test_tenants",
    "gateway/test_translation", "gateway/test_validation", "internvl/client/test_resend", "internvl/transport",
    "llm_service/test_detokenizer", "llm_service/test_positions", "llm_service/test_window", "packaging",
    "shared/serving/test_file_watch", "shared/serving/test_request_context", "shared/store/test_redis_url",
    "vision_service/test_tile_queue",
)  # fmt: skip
"""Tests that take a second or two in all."""


def pytest_configure() -> None:
    """A run that is stopped ends as one that is interrupted: its fixtures stop what they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have it ignored, and children inherit that


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what `make check` leaves out: tests that start processes, load models or decode files."""
    for item in items:
        place = item.path.relative_to(ROOT).as_posix()
        if not place.startswith(QUICK):
            item.add_marker(pytest.mark.slow)


# A busy machine is slow, not wrong.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisProcess]:
    """One server for all tests that only use it; empty it with `redis_url`."""
    process = server()
    process.start()
    yield process
    process.close()


@pytest.fixture
def redis_url(shared_redis: RedisProcess) -> str:
    """URL of a running server that is empty."""
    import redis

    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    return shared_redis.url


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A running server that the test may stop and start."""
    process = server()
    process.start()
    yield process
    process.close()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the original layout, 300M style."""
    from tests.support.checkpoints import write_random_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint")
    write_random_checkpoint(folder)
    return folder
