"""Every step's output counts by itself."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ranvier.core.checks import Refusal
from ranvier.learn.tet_loss import tet_loss


def test_it_is_the_mean_over_steps_and_a_pull_to_a_level():
    outputs, labels = torch.randn(5, 4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    by_hand = sum(cross_entropy(o, labels) for o in outputs) / 5
    pull = ((outputs - 1.0) ** 2).mean()
    torch.testing.assert_close(tet_loss(outputs, labels), 0.999 * by_hand + 0.001 * pull)
    torch.testing.assert_close(tet_loss(outputs, labels, share=0.0), by_hand)


def test_gradcheck():
    outputs = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda o: tet_loss(o, torch.tensor([0, 3]), 0.1, 0.5), (outputs,))


@pytest.mark.parametrize(("outputs", "labels"), [((3, 4), (3,)), ((2, 3, 4), (2,))])
def test_scores_without_time_and_foreign_labels_are_refused(outputs, labels):
    with pytest.raises(Refusal, match="outputs"):
        tet_loss(torch.zeros(outputs), torch.zeros(labels, dtype=torch.int64))
