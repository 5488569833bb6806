"""Everything on one machine: the launcher and the demo model it serves by default."""
