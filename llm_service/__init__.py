"""Messages and embedding keys to text: steps 6 to 10 of the data's path."""
