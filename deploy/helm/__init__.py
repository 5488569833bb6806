"""The chart, and what writes its schema."""
