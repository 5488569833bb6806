"""Generates the stubs of every contract into clients/python/internvl; with --check, names what is not fresh instead.

Knows protoc, its three plugins and where files lie. Knows no contract: a new .proto file needs no change here.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROTOS = Path(__file__).parent
STUBS = PROTOS.parent / "clients" / "python"
SERVICE = re.compile(r"^service ", re.MULTILINE)

Files = dict[Path, bytes]
"""Files under a folder: paths relative to it, and their bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m protos.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a stub is not fresh")
    check = parser.parse_args().check
    fresh = generated()
    committed = committed_stubs({stub.parts[0] for stub in fresh})
    stale = differences(fresh, committed)
    if not check:
        write(fresh, committed)
    print("\n".join(stale) or f"{len(fresh)} stubs are fresh")
    if check and stale:
        sys.exit("Run `make stubs` and commit what it changes.")


def generated() -> Files:
    """The stubs as they should be, under internvl/."""
    protos = sorted(PROTOS.glob("internvl/**/*.proto"))
    if not protos:
        sys.exit(f"No .proto file under {PROTOS}: stubs are generated in a checkout, not in an installed package.")
    with_service = [proto for proto in protos if SERVICE.search(proto.read_text(encoding="utf-8"))]
    with TemporaryDirectory() as folder:
        protoc(protos, outputs=[f"--python_out={folder}", f"--mypy_out=quiet:{folder}"])
        if with_service:
            protoc(with_service, outputs=[f"--grpc_python_out={folder}", f"--mypy_grpc_out=quiet:{folder}"])
        stubs = files_under(Path(folder) / "internvl")
    packages = {parent for stub in stubs for parent in stub.parents}
    return stubs | {package / "__init__.py": b"" for package in packages if package != Path()}


def committed_stubs(packages: set[str]) -> Files:
    """The stubs that are there: the client's own modules, beside them, are not generated."""
    root = STUBS / "internvl"
    return {
        Path(package) / path: content for package in packages for path, content in files_under(root / package).items()
    }


def protoc(protos: list[Path], *, outputs: list[str]) -> None:
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTOS}",
        *plugins,
        *outputs,
        *map(str, protos),
    ]
    if subprocess.run(command).returncode:
        sys.exit("protoc failed; its reasons are above.")


def files_under(folder: Path) -> Files:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(fresh: Files, committed: Files) -> list[str]:
    """One line for each stub that is missing, extra or different, in the order of paths."""
    kinds = {
        **dict.fromkeys(fresh.keys() - committed.keys(), "missing"),
        **dict.fromkeys(committed.keys() - fresh.keys(), "extra"),
        **{path: "different" for path in fresh.keys() & committed.keys() if fresh[path] != committed[path]},
    }
    return [f"{kinds[path]}: clients/python/internvl/{path.as_posix()}" for path in sorted(kinds)]


def write(fresh: Files, committed: Files) -> None:
    """Leaves fresh files alone, so that nothing that watches them wakes."""
    for path in committed.keys() - fresh.keys():
        (STUBS / "internvl" / path).unlink()
    for path, content in fresh.items():
        if committed.get(path) != content:
            target = STUBS / "internvl" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


if __name__ == "__main__":
    main()
