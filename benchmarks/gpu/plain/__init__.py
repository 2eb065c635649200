"""Programs in plain PyTorch, for comparison with the container; each prints one line of JSON."""
