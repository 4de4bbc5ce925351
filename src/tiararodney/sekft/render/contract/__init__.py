"""What travels with an adapter, so that serving renders as training did.

canonical    the model's template with the normalisation written in Jinja in front of it
thinking     the settings under which a reasoning model's prompt opens no thought
fingerprint  the hashes that decide which ids a session becomes
folder       what an adapter's folder carries of it, and the check before serving
"""
