"""Dropout on a CPU: the rate, the mean, the seed."""

import pytest
import torch

from fact.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.99])
def test_elements_are_dropped_at_the_rate_and_the_others_scaled(rate):
    torch.manual_seed(0)
    count = 200_001
    y = Dropout(rate)(torch.ones(count, dtype=torch.float64))
    kept = y != 0
    # Five standard deviations of a binomial count.
    assert abs(kept.double().mean() - (1 - rate)) < 5 * (rate * (1 - rate) / count) ** 0.5
    assert y[kept].unique().tolist() == [pytest.approx(1 / (1 - rate), rel=2e-3)]
    # A shared word must not tie its four elements together.
    pairs = (kept[:-1] & kept[1:]).double().mean()
    assert abs(pairs - (1 - rate) ** 2) < 0.01


def test_the_gradient_is_the_mask():
    x = torch.ones(50, 3, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)


@pytest.mark.parametrize("rate", [0.0, 0.7])
def test_nothing_is_dropped_in_evaluation_or_at_rate_zero(rate):
    x = torch.randn(9)
    assert torch.equal(Dropout(rate).train(rate == 0)(x), x)


def test_rate_one_drops_all():
    assert not Dropout(1.0)(torch.ones(9)).any()


def test_the_seed_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(64))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_update_is_added_as_if_it_were_dropped_alone(training, dtype):
    dropout = Dropout(0.3).train(training)
    x, update = torch.randn(40, 5), torch.randn(40, 5).to(dtype)
    torch.manual_seed(1)
    wanted = x + dropout(update)
    torch.manual_seed(1)
    with torch.no_grad():
        found = dropout.add(x, update.clone())
    assert found.dtype == torch.float32
    # One rounding less in bfloat16.
    torch.testing.assert_close(found, wanted, atol=0.02 if dtype == torch.bfloat16 else 1e-6, rtol=0)


def test_an_update_keeps_its_gradient():
    x, update = torch.randn(2, 30, requires_grad=True).double(), torch.randn(2, 30, requires_grad=True)
    Dropout(0.5).eval().add(x, update).sum().backward()
    assert torch.equal(update.grad, torch.ones(2, 30))
