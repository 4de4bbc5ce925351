"""The hot base over HTTP, in OpenAI's shapes and with vLLM's routes for adapters."""
