"""Measurements that need a GPU: `make gpu-day` runs all of them within a time limit and writes one JSON.

`sections/` has one module per question, each with its predictions beside the measurement. `plain/` has
what the container is compared with: programs in processes of their own, without the container.
No process but those of `plain/` and the model builder imports PyTorch.
"""
