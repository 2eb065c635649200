"""What handlers import from the Hugging Face toolkit: content types, and reading and writing by them."""
