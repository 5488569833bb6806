"""`python -m internvl.cli`, and the entry point of the command `internvl`."""

import sys


def main() -> None:
    """Runs the command. Ctrl-C while Python still imports ends it without a traceback, too."""
    try:
        from internvl.cli.main import app

        app(prog_name="internvl")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
