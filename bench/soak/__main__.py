"""`python -m bench.soak`."""

from bench.soak.run import main

main()
