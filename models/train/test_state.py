"""A stage that is stopped and resumed ends with the same weights as one that was not.

    python -m unittest models/train/test_state.py
"""

import pathlib
import random
import sys
import tempfile
import unittest

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from common import Average, advance, optimizers, rate
from state import State

STEPS = 12


def run(path: pathlib.Path, stop_at: int | None) -> list[torch.Tensor]:
    """Trains a layer from the state in `path` to the end or to a step; returns weights and their average."""
    torch.manual_seed(1)
    rng, model = random.Random(1), torch.nn.Linear(8, 8)
    average = Average(model, 0.9)
    matrices, others = optimizers([model.weight], [model.bias], weight_decay=0.01)
    state = State(path, STEPS, rng, model=model, average=average, matrices=matrices, others=others)
    try:
        for step in state.run():
            inputs = torch.randn(4, 8) * rng.random()
            (model(inputs) - inputs).square().mean().backward()
            advance([matrices, others], rate(step, STEPS, 1e-2, warmup=2))
            average.update(model)
            if step + 1 == stop_at:
                state.stop()
    except SystemExit:
        pass
    return [*model.parameters(), *average.module.parameters()]


class StateTest(unittest.TestCase):
    def test_a_stage_goes_on_at_any_step(self):
        with tempfile.TemporaryDirectory() as folder:
            whole = run(pathlib.Path(folder, "whole.pt"), None)
            for stop_at in (1, 5, STEPS - 1):
                path = pathlib.Path(folder, f"{stop_at}.pt")
                stopped = run(path, stop_at)
                self.assertFalse(torch.equal(stopped[0], whole[0]))
                for expected, found in zip(whole, run(path, None), strict=True):
                    self.assertTrue(torch.equal(expected, found))

    def test_a_write_that_is_cut_off_leaves_the_state_before(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "state.pt")
            run(path, 5)
            path.with_suffix(".new").write_bytes(b"half a file")
            whole = run(pathlib.Path(folder, "whole.pt"), None)
            self.assertTrue(torch.equal(run(path, None)[0], whole[0]))


if __name__ == "__main__":
    unittest.main()
