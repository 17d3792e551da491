"""Evergreen: retrain, judge, compress, register and serve fine-tuned transformers from one YAML file."""

__version__ = "0.1.0"
