"""Bundles authored by a language model and accepted by the gate."""
