import pytest
import torch
from torch.nn import functional

from epalm.models.cross_entropy import cross_entropy, cross_entropy_after

ROWS, WORDS = 23, 20_000  # several parts, the last one smaller


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_value_and_gradient_are_those_of_torch(dtype, smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(ROWS, WORDS, generator=generator)).to(dtype)
    targets = torch.randint(WORDS, (ROWS,), generator=generator)
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    total = cross_entropy(mine, targets, smoothing)
    expected = functional.cross_entropy(theirs.float(), targets, reduction="sum", label_smoothing=smoothing)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    (3 * total / ROWS).backward()
    (3 * expected / ROWS).backward()
    assert mine.grad.dtype == dtype
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert torch.equal(mine.detach(), logits)  # whoever asked for the logits still has them


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_behind_an_output_embedding_it_is_the_same_with_a_few_logits_at_a_time(dtype, smoothing):
    generator = torch.Generator().manual_seed(0)
    rows, width, words = 300, 24, 1000
    head = torch.nn.Linear(width, words, dtype=dtype).requires_grad_(False)
    hidden = torch.randn(rows, width, generator=generator).to(dtype)
    targets = torch.randint(words, (rows,), generator=generator)
    mine, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    at_once = []
    head.register_forward_hook(lambda module, args, output: at_once.append(len(output)))
    total = cross_entropy_after(head, mine, targets, smoothing)
    assert sum(at_once) == rows
    assert max(at_once) <= 128
    expected = functional.cross_entropy(head(theirs).float(), targets, reduction="sum", label_smoothing=smoothing)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    (3 * total / rows).backward()
    (3 * expected / rows).backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5 if dtype == torch.float32 else 0.05, atol=1e-4)
    with torch.no_grad():
        assert cross_entropy_after(head, mine, targets, smoothing).item() == pytest.approx(total.item(), rel=1e-6)


def test_logits_far_from_zero_do_not_overflow():
    logits = torch.tensor([[30_000.0, 0.0], [-30_000.0, -30_001.0]], requires_grad=True)
    total = cross_entropy(logits, torch.tensor([1, 0]))
    assert total.item() == pytest.approx(30_000 + 0.3132617)
    total.backward()
    assert torch.isfinite(logits.grad).all()


def test_without_rows_it_is_zero():
    assert cross_entropy(torch.empty(0, 5), torch.empty(0, dtype=torch.long)).item() == 0
    assert cross_entropy_after(torch.nn.Linear(5, 7), torch.empty(0, 5), torch.empty(0, dtype=torch.long)).item() == 0
