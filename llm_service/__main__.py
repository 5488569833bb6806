"""`python -m llm_service`, and the command `internvl-llm`."""

from shared.serving.early_stop import end_on_sigterm


def main() -> None:
    """Runs the service. SIGTERM is handled first, before modules are imported and anything is loaded."""
    end_on_sigterm()
    from llm_service.server import main as run

    run()


if __name__ == "__main__":
    main()
