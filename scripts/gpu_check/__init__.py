"""The parts of `scripts/gpu-check`: steps, runner, results and the pack."""
