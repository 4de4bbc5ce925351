"""What travels with an adapter, so that serving renders as training did.

canonical    the model's template with the normalisation written in Jinja in front of it
thinking     the settings under which a reasoning model's prompt opens no thought
fingerprint  render.json: the hashes by which a server's template and tokenizer are held against the trained ones
"""
