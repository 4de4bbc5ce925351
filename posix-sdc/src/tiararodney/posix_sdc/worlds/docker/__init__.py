"""Worlds as containers of a Docker engine."""
