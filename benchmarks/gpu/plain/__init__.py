"""What the container is compared with, in plain PyTorch: programs that print one line of JSON."""
