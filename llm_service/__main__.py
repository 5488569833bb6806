"""`python -m llm_service`."""

from llm_service.server import main

if __name__ == "__main__":
    main()
