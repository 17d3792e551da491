"""The training loop, precision, base models."""
