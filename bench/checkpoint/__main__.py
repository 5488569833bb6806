"""`python -m bench.checkpoint`."""

from bench.checkpoint.write import main

main()
