"""Long-lived model processes: the bottom layer, which knows nothing of HTTP."""
