"""Pictures and clips to visual token embeddings: steps 2 to 5 of the data's path."""
