"""Other servers and plain PyTorch, for comparison with the container; each in a separate environment."""
