"""One random case of an exercise: draw its values, compare the answer, name the mistake."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .wire import Seeded

ROUNDING = {torch.float32: 2e-4, torch.float64: 1e-8}  # relative to the largest expected number
NAMES = {Tensor: "a tensor", float: "a number", int: "a whole number", str: "a string", type(None): "None"}


class Mistake(Exception):
    """A wrong answer: the property that failed and, where it was recognised, the likely mistake."""

    def __init__(self, failed: str, likely: str | None = None):
        super().__init__(failed if likely is None else f"{failed}\nLikely mistake: {likely}")
        self.failed, self.likely = failed, likely


class Case:
    """Random sizes and values from one seed, and comparisons that explain themselves."""

    def __init__(self, seed: int):
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = torch.float32 if self.integer(0, 1) else torch.float64
        self.last = object()  # the last answer; at first there is none
        self.largest = 0  # elements of the largest tensor on the way to it

    # draws

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def turn(self, kinds: int) -> int:
        """0, 1, ..., `kinds` - 1 in turn from case to case, so that every run meets every kind."""
        return self.seed % kinds

    def choice(self, *options):
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]

    def different(self, n: int, low: int, high: int) -> list[int]:
        """`n` different whole numbers, so that no axis can be mistaken for another."""
        return (torch.randperm(high - low + 1, generator=self.generator)[:n] + low).tolist()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers in this case's dtype."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def sphere(self, *shape: int) -> Tensor:
        """Unit vectors along the last axis."""
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return (x / x.norm(dim=-1, keepdim=True)).to(self.dtype)

    def seeded(self) -> Seeded:
        """A generator of random numbers for the answer's own use."""
        return Seeded(self.integer(0, 2**31 - 1))

    # comparisons

    def tensor(self, got, shape: tuple[int, ...], what: str = "answer", finite: bool = True) -> Tensor:
        """`got` as a float64 tensor, once it is known to be a finite floating-point tensor of that shape."""
        what = self.whole(got, what)
        if not isinstance(got, Tensor):
            raise Mistake(f"the {what} should be a tensor, and is {name_of(got)}", no_tensor(got, shape))
        if tuple(got.shape) != tuple(shape):
            hint = "the last two axes are exchanged" if turned(got.shape, shape) else None
            raise Mistake(f"the {what} should have shape {tuple(shape)}, and has {tuple(got.shape)}", hint)
        if got.dtype not in ROUNDING:
            raise Mistake(f"the {what} should hold float32 or float64 numbers, and holds {short(got.dtype)}")
        if finite and not got.isfinite().all():
            first = float(got[~got.isfinite()][0])
            raise Mistake(f"the {what} holds {first} at {where(~got.isfinite())}", why_no_number(first))
        return got.double()

    def whole(self, got, what: str) -> str:
        """What `got` is called as a whole: `what` may name its entries, or one part of an answer of several."""
        return "answer" if got is self.last else what

    def number(self, got, what: str = "answer") -> float:
        """`got` as a float, from a number or a tensor with one element."""
        if isinstance(got, Tensor) and got.numel() == 1 and not got.is_complex():
            got = got.item()
        if isinstance(got, bool) or not isinstance(got, int | float):
            raise Mistake(f"the {what} should be a number, and is {name_of(got)}", forgot_return(got))
        return float(got)

    def close(self, got: Tensor, want: Tensor, dtype: torch.dtype, loose: float = 1.0) -> bool:
        """Equal up to the rounding of the coarser of two dtypes: the answer's and that of what it was given."""
        return bool(((got - want).abs() <= self.tolerance(want, dtype, loose)).all())

    def tolerance(self, want: Tensor, dtype: torch.dtype, loose: float) -> float:
        rounding = max(ROUNDING.get(dtype, 2e-4), ROUNDING[self.dtype])
        return loose * rounding * max(1e-3, largest(want))

    def same(
        self,
        got,
        want: Tensor,
        near: dict[str, Tensor | Callable[[], Tensor]] | None = None,
        *,
        what: str = "answer",
        loose: float = 1.0,
        otherwise: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Raise a `Mistake` unless `got` is `want`.

        `near` names wrong answers by what they compute, `otherwise` is the likely mistake if none is recognised, and
        `dtype` is the answer's where `got` was computed from it.
        """
        dtype = dtype or (got.dtype if isinstance(got, Tensor) else self.dtype)
        want = want.double()
        numbers = isinstance(got, Tensor) and got.is_floating_point()
        done = numbers and got.shape == want.shape and self.close(got, want, dtype, loose)
        if numbers and not done:  # what is right is right, however near a mistake may come
            near = {likely: value() if callable(value) else value for likely, value in (near or {}).items()}
            near = {likely: value.double() for likely, value in near.items()}
            gaps = {}  # a recognised mistake says more than a wrong shape or a nan does
            for likely, value in near.items():
                right = want.shape == value.shape and self.close(value, want, dtype, loose)  # in this case, by chance
                if got.shape == value.shape and self.alike(got.double(), value, dtype, loose) and not right:
                    gaps[likely] = largest((got.double() - value)[value.isfinite()])
            if gaps:  # two may come near each other by chance: the nearest was made, the first of those that are equal
                tie = min(gaps.values()) + 0.05 * self.tolerance(want, dtype, loose)
                likely = next(likely for likely, gap in gaps.items() if gap <= tie)
                raise Mistake(self.difference(got, want, what), likely)
        number = self.tensor(got, want.shape, what)
        if not self.close(number, want, dtype, loose):
            likely = self.general(number, want, dtype, loose) or otherwise
            raise Mistake(self.difference(number, want, what), likely)

    def without(self, matrix: str, rows: int, columns: int) -> None:
        """Raise a `Mistake` if a tensor as large as that matrix was made on the way to the last answer."""
        if self.largest >= rows * columns:
            failed = f"the numbers are right, but a tensor of {self.largest} elements was made on the way"
            raise Mistake(failed, f"{matrix}, {rows} x {columns}, is built")

    def alike(self, got: Tensor, value: Tensor, dtype: torch.dtype, loose: float) -> bool:
        """Close, with nan and inf in the same places."""
        finite = value.isfinite()
        if not torch.equal(got.isfinite(), finite):
            return False
        return self.close(got[finite], value[finite], dtype, loose)

    def general(self, got: Tensor, want: Tensor, dtype: torch.dtype, loose: float) -> str | None:
        """Mistakes that can be seen without knowing the exercise."""
        if got.dim() >= 2 and got.shape == got.mT.shape and self.close(got.mT, want, dtype, loose):
            return "the last two axes are exchanged (a transpose too many, or one too few)"
        if largest(got) == 0:
            return "everything is zero"
        factor = float((got * want).sum() / (want * want).sum().clamp_min(1e-300))
        if factor != 0 and self.close(got, factor * want, dtype, loose):
            if abs(factor + 1) < 1e-6:
                return "the sign is wrong"
            if want.numel() == 1 and not (2 * factor).is_integer() and not (2 / factor).is_integer():
                return None  # any two numbers have some factor between them
            return f"a factor: every number is {factor:.4g} times what it should be"
        return None

    def difference(self, got: Tensor, want: Tensor, what: str) -> str:
        """Where and by how much two tensors differ most."""
        if got.shape != want.shape:
            return f"the {self.whole(got, what)} should have shape {tuple(want.shape)}, and has {tuple(got.shape)}"
        gap = (got - want).abs().nan_to_num(torch.inf)
        at = tuple(torch.unravel_index(gap.argmax(), gap.shape)) if gap.dim() else ()
        place = f" at [{', '.join(str(int(i)) for i in at)}]" if at else ""
        return f"the {what}{place} is {float(got[at]):.6g}, and should be {float(want[at]):.6g}"


def largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def where(mask: Tensor) -> str:
    at = mask.nonzero()
    return f"[{', '.join(str(int(i)) for i in at[0])}]" if mask.dim() else "its only number"


def turned(shape, wanted) -> bool:
    return len(shape) >= 2 and (*shape[:-2], shape[-1], shape[-2]) == tuple(wanted)


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def name_of(value) -> str:
    return NAMES.get(type(value), f"a {type(value).__name__}")


def coarsest(*answers: Tensor) -> torch.dtype:
    """The dtype that rounds most among tensors that `Case.tensor` has let pass."""
    return max((answer.dtype for answer in answers), key=ROUNDING.get)


def forgot_return(got) -> str | None:
    return "the function ends without `return`" if got is None else None


def no_tensor(got, shape: tuple[int, ...]) -> str | None:
    parts = got if isinstance(got, tuple) else ()
    if any(isinstance(part, Tensor) and tuple(part.shape) == tuple(shape) for part in parts):
        return "only one part of this tuple is asked for; of what torch.linalg.lstsq gives, it is `.solution`"
    return forgot_return(got)


def why_no_number(first: float) -> str:
    if math.isnan(first):
        return "0 * inf, inf - inf or 0/0: a mask is multiplied by inf, an exponential overflows, or a sum is 0"
    if first < 0:
        return "log of 0, a division by 0, or a mask's -inf that no softmax follows"
    return "exp of a large number, or a division by 0"


def describe(value) -> str:
    """A value of a case in a few words: tensors by shape and dtype, small things as they are."""
    if isinstance(value, Tensor):
        return f"{short(value.dtype)} {tuple(value.shape)}"
    if isinstance(value, Seeded):
        return "a torch.Generator"
    if callable(value):
        return "a function"
    text = repr(value)
    return text if len(text) <= 40 else name_of(value)
