"""Refusing bad input: a `ValueError` that names the argument, what it got and what it wants, before any work."""

from collections.abc import Sequence


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` holds.

    The message is written on every call. Where it names a number that varies from call to call, such as a length, raise
    in an `if` instead: torch.compile would compile for each number.
    """
    if not condition:
        raise ValueError(message)


def shape_of(value: object) -> str:
    """What a message says of `value`: the shape of a tensor, else the thing itself."""
    return f"{tuple(value.shape)}" if hasattr(value, "shape") else repr(value)  # torch.compile traces no str(tuple)


def dtype_and_shape_of(value: object) -> str:
    """`shape_of`, after the dtype of a tensor."""
    return f"{value.dtype} of shape {shape_of(value)}" if hasattr(value, "dtype") else repr(value)


def positive_int(name: str, value: object) -> int:
    """`value` as it came, if it is an integer of at least 1."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not (is_int and value >= 1):
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value


def positive_ints(name: str, values: object, length: int | None = None) -> tuple[int, ...]:
    """`values` as a tuple, if they are positive integers, `length` of them where that is given."""
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str)
    if not (is_sequence and len(values) > 0):
        raise ValueError(f"{name} must be a sequence of positive integers, got {values!r}")
    if length is not None and len(values) != length:
        raise ValueError(f"{name} must have {length} entries, got {len(values)}: {values!r}")
    return tuple(positive_int(f"{name}[{i}]", value) for i, value in enumerate(values))


def divides(name: str, divisor: int, whole_name: str, whole: int) -> int:
    """`whole // divisor`, if `divisor` is a positive integer that divides `whole`."""
    positive_int(name, divisor)
    require(whole % divisor == 0, f"{name} must divide {whole_name} = {whole}, got {divisor}")
    return whole // divisor
