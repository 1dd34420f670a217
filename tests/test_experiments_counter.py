"""Random numbers from a counter: the bits of SplitMix64, normal numbers, and streams that do not know each other."""

import pytest
import torch

from structattn_minimal.experiments import counter


def step(number):
    return torch.tensor([number])


def normal(seeds, number, *shape):
    return counter.normal(torch.tensor(seeds), step(number), *shape)


def reference(word):
    """SplitMix64's finaliser on Python's integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)


def test_the_bits_are_those_of_splitmix64():
    state, golden = 1234567, 0x9E3779B97F4A7C15
    counted = torch.tensor([counter.signed((state + i * golden) % 2**64) for i in (1, 2, 3)])
    mixed = [word % 2**64 for word in counter.mix(counted).tolist()]
    assert mixed == [6457827717110365317, 3203168211198807973, 9817491932198370423]  # the published test values
    for seed, number in ((0, 0), (7, 3), (2**40, 12345)):
        key = reference((reference(seed * golden % 2**64) + number) % 2**64)
        expected = [reference((key + i * golden) % 2**64) for i in range(1, 6)]
        found = counter.words(torch.tensor([seed]), step(number), 5)[0]
        assert [word % 2**64 for word in found.tolist()] == expected


def test_numbers_are_normal_and_independent():
    x = normal([3], 5, 400_000)[0].double()
    moments = [x.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.03)
    for limit, share in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert (x.abs() > limit).double().mean().item() == pytest.approx(share, rel=0.1)
    assert 4 < x.abs().max() < 6
    for lag in (1, 2, 200_000):  # 200,000: the other number of the same word
        assert abs((x[lag:] * x[:-lag]).mean().item()) < 0.01
        assert abs((x[lag:].square() * x[:-lag].square()).mean().item() - 1) < 0.03


def test_a_number_depends_on_seed_step_and_place_alone():
    both = normal([1, 2], 9, 6, 5)
    assert both.shape == (2, 6, 5)
    assert torch.equal(both[1], normal([2], 9, 6, 5)[0])
    assert torch.equal(both, normal([1, 2], 9, 6, 5))
    streams = [normal([seed], number, 20_000)[0] for seed in (0, 1, 2) for number in (0, 1, 2, 3)]
    correlations = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams))
    assert correlations.abs().max() < 0.04


def test_an_odd_number_of_numbers():
    assert normal([0], 0, 3, 5).shape == (1, 3, 5)
    assert normal([0], 0, 1).shape == (1, 1)
