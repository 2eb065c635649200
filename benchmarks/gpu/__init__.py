"""Measurements that need a GPU: `make gpu-day` runs all of them within a time limit and writes one JSON.

`sections/` has one module per question, with predictions and measurements. `plain/` has the programs with
which the container is compared; they run in separate processes, without the container. Only these and the
model builder import PyTorch.
"""
