"""Any logged run is run again from its record alone, and checked against it."""

import torch

from pipeline.config.schema import TrainingConfig
from pipeline.training.determinism import repeatable


def test_an_operation_that_is_not_deterministic_is_named():
    training = TrainingConfig(1, 1, 4, 0, 1, 1, None, "float32", threads=1)
    before = torch.get_num_threads()
    with repeatable(training) as exceptions:
        assert torch.get_num_threads() == 1
        torch.zeros(5).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert exceptions == {"put_"}
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()
