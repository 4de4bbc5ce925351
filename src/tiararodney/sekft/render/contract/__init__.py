"""What travels with an adapter, so that serving renders as training did.

canonical    the model's template with the normalisation written in Jinja in front of it
folder       the fingerprint and what else an adapter's folder carries, and the check before serving
"""
