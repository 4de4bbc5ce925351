"""Who acts in a session: the reference operator, a script, a model behind an endpoint."""
