import pytest
import torch
import torch.nn.functional as F

from tabwise_training.loss import IGNORE, Teacher, head_cross_entropy


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(chunk: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 7, 8, requires_grad=True)
    weight = torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(0, 11, (2, 7))
    targets[0, 3] = targets[1, 6] = IGNORE

    loss = head_cross_entropy(hidden, weight, targets, chunk=chunk)
    torch.autograd.backward(loss * 0.5)
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None

    plain = F.cross_entropy(
        (hidden @ weight.T).flatten(0, 1),
        targets.flatten(),
        ignore_index=IGNORE,
        reduction="sum",
    )
    torch.autograd.backward(plain * 0.5)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, (hidden.grad, weight.grad))


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_teachers_expectations_are_a_part_of_the_target(
    chunk: int, share: float
) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 7, 8, requires_grad=True)
    weight = torch.randn(11, 8, requires_grad=True)
    teacher = Teacher(torch.randn(2, 7, 5), torch.randn(11, 5), share)
    targets = torch.randint(0, 11, (2, 7))
    targets[0, 3] = targets[1, 6] = IGNORE

    loss = head_cross_entropy(hidden, weight, targets, chunk, teacher)
    torch.autograd.backward(loss * 0.5)
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None

    expected = torch.softmax(teacher.hidden @ teacher.weight.T, -1)
    own = F.one_hot(targets.clamp(min=0), 11)
    mixed = share * expected + (1 - share) * own
    logs = torch.log_softmax(hidden @ weight.T, -1)
    plain = -(mixed * logs).sum(-1)[targets != IGNORE].sum()
    torch.autograd.backward(plain * 0.5)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, (hidden.grad, weight.grad))


def test_under_autocast_the_head_multiplies_in_bfloat16() -> None:
    """Near what float32 gives, and exactly what bfloat16 states give."""
    torch.manual_seed(0)
    hidden = torch.randn(3, 9, 16, requires_grad=True)
    weight = torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 40, (3, 9))
    exact = head_cross_entropy(hidden, weight, targets)
    rounded = head_cross_entropy(hidden.bfloat16(), weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head_cross_entropy(hidden, weight, targets)
    assert float(loss.detach()) == float(rounded.detach())
    torch.testing.assert_close(loss, exact, rtol=0.01, atol=0)
    torch.autograd.backward(loss)
    for grad in (hidden.grad, weight.grad):
        assert grad is not None
        assert grad.dtype == torch.float32
