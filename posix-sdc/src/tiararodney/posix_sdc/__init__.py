"""Worlds and data for language models that operate a POSIX shell."""
