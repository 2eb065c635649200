"""Stand-in for the modules of the Hugging Face toolkit that handlers import."""
