"""`python -m llm_service`."""

from llm_service.server import main

main()
