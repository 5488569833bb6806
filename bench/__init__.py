"""What is measured, and what the measurements run against. Ratios and tables go to docs/benchmarks.md."""
