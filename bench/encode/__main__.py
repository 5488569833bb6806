"""`python -m bench.encode`."""

from bench.encode.compare import main

main()
