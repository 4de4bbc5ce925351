"""Sessions played in worlds: the loop, the gate, the operators."""
