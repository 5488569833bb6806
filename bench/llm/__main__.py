"""`python -m bench.llm`."""

from bench.llm.compare import main

main()
