"""What the first load of new content costs: the scenario `first-load`."""
