"""What `scripts/gpu-check` is made of: the steps, what runs them, what becomes of their results, and the pack."""
