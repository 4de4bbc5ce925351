"""Scenario bundles made from a seed, or by a model."""
