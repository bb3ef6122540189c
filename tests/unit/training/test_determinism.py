"""An operation that cannot be repeated bit for bit is named, and settings come back."""

import torch

from pipeline.training.determinism import repeatable
from tests.support.configs import training


def test_an_operation_that_is_not_deterministic_is_named():
    before = torch.get_num_threads()
    with repeatable(training(threads=1)) as exceptions:
        assert torch.get_num_threads() == 1
        torch.zeros(5).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert exceptions == {"put_"}
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()
