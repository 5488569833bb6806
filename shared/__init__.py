"""What more than one service needs: contracts, checkpoints, the embedding store, errors. No torch, no service."""
