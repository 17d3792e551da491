"""Readers, text normalisation, duplicates, stable splits, batching."""
