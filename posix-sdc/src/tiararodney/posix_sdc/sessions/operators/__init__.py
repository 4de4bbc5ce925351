"""Operators of sessions: the reference operator, a script, a model behind an endpoint."""
