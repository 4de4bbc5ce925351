"""Bundles authored by a language model, each one gated before it is kept."""
