"""An answer that builds the matrix is seen to, however it does so; one that does not is not."""

import pytest
import torch

from exercises.case import Case, Mistake
from exercises.sizes import Largest


@pytest.mark.parametrize(
    ("run", "elements"),
    [
        (lambda x: x + 1, 12),
        (lambda x: (x @ x.mT).sum(), 12),  # the view of x looks at as many
        (lambda x: torch.kron(x, x).sum(), 144),
        (lambda x: x.expand(100, 3, 4), 12),  # a view holds nothing of its own
        (lambda x: x.expand(100, 3, 4) * 2, 1200),
        (lambda x: x.expand(100, 3, 4).reshape(-1), 1200),
        (lambda x: torch.empty(50, 2).fill_(x.sum()), 100),
        (lambda x: torch.func.vmap(lambda row: torch.outer(row, row))(x), 48),
        (lambda x: torch.autograd.grad(torch.outer(x[0], x[1]).exp().sum(), x)[0], 16),
        (lambda x: [torch.zeros(7, 7, dtype=torch.complex64), x], 49),
        (lambda x: 3, 0),
    ],
)
def test_the_largest_tensor_on_the_way(run, elements):
    x = torch.randn(3, 4, requires_grad=True)
    with Largest() as largest:
        run(x)
    assert largest.elements == elements


def test_it_looks_no_further_than_its_context():
    with Largest() as largest:
        torch.zeros(3)
    torch.zeros(100)
    assert largest.elements == 3


def test_a_matrix_is_named_with_its_size():
    case = Case(0)
    case.without("M", 2, 3)
    case.largest = 5
    case.without("M", 2, 3)
    case.largest = 6
    with pytest.raises(
        Mistake, match=r"a tensor of 6 elements was made on the way\nLikely mistake: M, 2 x 3, is built"
    ):
        case.without("M", 2, 3)
