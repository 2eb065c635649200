"""What handlers import from multi-model-server."""
