"""Other servers and plain PyTorch, to be measured beside the container; each in an environment of its own."""
