"""One optimizer step: examples into rows (`pack`), rows through the model (`forward`), the gradient of their `loss`."""
