"""What travels with an adapter, so that serving renders as training did."""
