"""Position increments of visual tokens (V2PE): 1, 1/2, ... 1/256 of a text token's."""

HALVINGS = 8
INCREMENTS: tuple[float, ...] = tuple(2.0**-halvings for halvings in range(HALVINGS + 1))
"""Allowed increments, largest first."""
