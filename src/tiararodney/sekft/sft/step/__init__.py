"""One optimizer step: examples into packed rows, rows through the model, the gradient of their mean loss.

pack -> forward (layers, elementwise, attention) -> loss -> gradients
"""
