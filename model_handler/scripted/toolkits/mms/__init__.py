"""Stand-in for the modules of multi-model-server that handlers import."""
