"""The surrogate of rank lists: it finds what was planted, says how far it is off, and refuses what was not recorded."""

import math
from collections import Counter
from itertools import combinations, pairwise

import pytest
import torch

from exercises.ch12 import solutions
from structattn_minimal.experiments import rank_surrogate as rs
from structattn_minimal.experiments import records
from structattn_minimal.experiments.presets import RANK_LISTS, TEXT_COMPARISONS
from structattn_minimal.viz import rank_figures

RECORD = records.read_record("lm_ranks")
RECORDED = rs.recorded(RECORD)
SURROGATE = rs.fit(RECORDED)


def planted(model, seed=0, noise=0.0, seeds=2):
    """A polynomial of that kind with random coefficients, and the losses that it gives the 24 lists."""
    generator = torch.Generator().manual_seed(seed)
    terms = rs.MODELS[model]
    weights = torch.randn(terms(rs.shares_of(RANK_LISTS)).shape[1], generator=generator, dtype=torch.float64)

    def loss(ranks):
        return (terms(rs.shares_of([ranks]))[0] @ weights).item()

    def noisy(ranks):
        return [loss(ranks) + noise * torch.randn((), generator=generator).item() for _ in range(seeds)]

    return loss, {ranks: noisy(ranks) for ranks in RANK_LISTS}


def by_hand(ranks, b, pairs):
    """Scheffé's quadratic, one product at a time."""
    x = [rank / sum(ranks) for rank in ranks]
    return sum(b[i] * x[i] for i in range(4)) + sum(pairs[i, j] * x[i] * x[j] for i, j in combinations(range(4), 2))


@pytest.mark.parametrize("model", rs.MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_what_was_planted_is_found_everywhere(model, seed):
    loss, losses = planted(model, seed)
    found = rs.fit(losses)
    assert found.error < 1e-9
    assert found.noise < 1e-9
    for ranks in rs.lists():
        assert found(ranks) == pytest.approx(loss(ranks), abs=1e-8)


def test_quadratic_is_scheffe_s():
    b = [1.5, 1.2, 1.4, 1.6]
    pairs = {pair: 0.1 * n - 0.2 for n, pair in enumerate(combinations(range(4), 2))}
    found = rs.fit({ranks: [by_hand(ranks, b, pairs)] * 2 for ranks in RANK_LISTS})
    assert found.model == "quadratic"
    assert found.weights.tolist() == pytest.approx([*b, *pairs.values()])


def test_terms_of_each_model():
    counts = {name: terms(rs.shares_of(RANK_LISTS)).shape[1] for name, terms in rs.MODELS.items()}
    assert list(counts.values()) == [4, 10, 14, 4, 10]
    z = [math.log(rank / 8) for rank in (32, 16, 24)]
    row = rs.log_contrast(2)(rs.shares_of([(32, 16, 24, 8)]))[0]
    assert row.tolist() == pytest.approx([1, *z, *(z[i] * z[j] for i in range(3) for j in range(i, 3))])


@pytest.mark.parametrize("model", rs.MODELS)
def test_leave_one_out_is_what_it_says(model):
    _, losses = planted(model, 1, noise=0.1)
    shares, means = rs.shares_of(losses), torch.tensor([sum(two) / 2 for two in losses.values()], dtype=torch.float64)
    for name, error in rs.leave_one_out(shares, means).items():
        missed = []
        for i in range(len(means)):  # fitted again, really without it
            others = [j for j in range(len(means)) if j != i]
            design = rs.MODELS[name](shares)
            weights = torch.linalg.pinv(design[others]) @ means[others]
            missed.append(means[i] - design[i] @ weights)
        assert error == pytest.approx(torch.stack(missed).square().mean().sqrt().item())


def test_the_model_of_the_least_error_is_taken_and_its_choice_is_paid_for():
    chosen = Counter()
    for seed in range(8):
        found = rs.fit(planted("quadratic", seed, noise=0.3)[1])
        assert found.errors[found.model] == min(found.errors.values())
        assert found.error >= found.errors[found.model] - 1e-12
        chosen[found.error > found.errors[found.model] + 1e-6] += 1
    assert chosen[True]  # somewhere the others choose another model


def test_pure_chance_is_seen_as_chance():
    _, losses = planted("linear", 2, noise=0.2, seeds=400)
    found = rs.fit(losses)
    assert found.noise == pytest.approx(0.2 / 20, rel=0.05)
    two = {ranks: (1.0 + n, 1.5 + n) for n, ranks in enumerate(RANK_LISTS)}
    assert rs.fit({ranks: list(pair) for ranks, pair in two.items()}).noise == pytest.approx(0.25)  # half the distance


@pytest.mark.parametrize(
    ("ranks", "says"),
    [
        ((61, 1, 1, 1), "at least"),
        ((60, 4, 0, 0), "positive"),
        ((52, 4, 6, 2), "at least"),
        ((32, 16, 16), "4 levels"),
        ((32, 16, 8, 4, 4), "4 levels"),
        ((32, 16, 8, 16), "sum to 64"),
        ((16, 8, 4, 4), "sum to 64"),
        ((33.5, 14.5, 8, 8), "integer"),
        (64, "sequence"),
    ],
)
def test_what_was_not_recorded_is_refused(ranks, says, unchecked):
    found = rs.fit(planted("linear")[1])
    with pytest.raises(ValueError, match=f"ranks.*{says}"):
        found(ranks)


def test_each_level_has_a_least_of_its_own():
    losses = {ranks: losses for ranks, losses in planted("linear")[1].items() if ranks[1] >= 8}
    found = rs.fit(losses)
    assert found.least == (4, 8, 4, 4)
    found((4, 8, 4, 48))
    with pytest.raises(ValueError, match="at least"):
        found((8, 4, 4, 48))


def test_records_that_tell_too_little_are_refused():
    _, losses = planted("linear")
    few = dict(list(losses.items())[:4])
    with pytest.raises(ValueError, match="more or other lists"):
        rs.fit(few)
    assert rs.fit(dict(list(losses.items())[:12])).errors.keys() < rs.MODELS.keys()  # no list may be missed for a cubic
    with pytest.raises(ValueError, match="2 seeds"):
        rs.fit({ranks: of[:1] for ranks, of in losses.items()})
    with pytest.raises(ValueError, match="equally many"):
        rs.fit(losses | {RANK_LISTS[0]: [1.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match="one length and sum"):
        rs.fit(losses | {(16, 8, 4, 4): [1.0, 1.0]})


def test_a_run_that_failed_or_diverged_is_left_out():
    record = records.read_record("lm_ranks")
    failed, lost, *_ = record["runs"]
    record["runs"][failed] = {"method": failed, "status": "failed"}
    record["runs"][lost] |= {"diverged": 1}
    assert list(rs.recorded(record)) == list(RANK_LISTS[2:])


def test_lists_are_all_there_are():
    found = rs.lists()
    assert len(set(found)) == len(found) == 455  # so many says exercise 12.6
    assert all(sum(ranks) == 64 and min(ranks) >= 4 and not any(rank % 4 for rank in ranks) for ranks in found)
    assert set(RANK_LISTS) <= set(found)
    assert len(rs.lists(12, 3, 2)) == 10


def test_costs_are_those_of_the_models():
    standard = records.read_record("lm_256")["runs"]["standard_D256"]["macs_a_token"]["scores"]
    for ranks, run in rs.whole_runs(RECORD).items():
        assert rs.score_cost(ranks) == pytest.approx(run["macs_a_token"]["scores"] / standard, rel=1e-6)


def test_the_frontier_is_what_exercise_12_6_chooses():
    found = rs.fit(planted("quadratic", 3)[1])
    best = rs.frontier(found, rs.lists())
    for ranks in best:
        assert solutions.choose_ranks(found, rs.score_cost(ranks)) == list(ranks)
    costs = [rs.score_cost(ranks) for ranks in best]
    for a, b in pairwise(costs):
        assert solutions.choose_ranks(found, (a + b) / 2) == list(best[costs.index(a)])


# What the page of the exercise says of the record in words


def test_the_record_is_of_the_preset():
    preset = TEXT_COMPARISONS["lm-ranks"]
    assert list(RECORDED) == list(RANK_LISTS)
    assert len(RECORDED) == 24
    assert RECORD["setting"]["steps"] == preset.steps == TEXT_COMPARISONS["lm-256"].sweep_steps
    assert {len(of) for of in RECORDED.values()} == {len(preset.seeds)} == {2}
    steep = records.read_record("lm_256")["runs"]["mlr_steep_D256"]
    assert list(preset.rates) == [steep["best_rate"]] == [2e-3]


def test_it_misses_by_little_more_than_chance():
    assert 0.8 < SURROGATE.error / SURROGATE.noise < 1.25


def test_half_the_macs_buy_a_list_that_is_cheaper_than_the_steep_one_and_not_known_to_be_better():
    chosen, steep = tuple(solutions.choose_ranks(SURROGATE, 0.5)), (32, 16, 8, 8)
    assert rs.score_cost(chosen) < rs.score_cost(steep)
    assert abs(SURROGATE(chosen) - SURROGATE(steep)) < SURROGATE.error
    assert min(RECORDED[steep]) < max(RECORDED[chosen])
    assert min(RECORDED[chosen]) < max(RECORDED[steep])


def test_seeds_of_lists_with_few_far_features_lie_further_apart():
    def apart(lists):
        return sum(max(RECORDED[ranks]) - min(RECORDED[ranks]) for ranks in lists) / len(lists)

    few, many = ([r for r in RECORDED if keep(r[0])] for keep in (lambda n: n <= 8, lambda n: n >= 24))
    assert apart(few) > 2 * apart(many)


def test_far_features_look_worth_their_price_and_standard_attention_is_worse_than_every_list():
    assert rs.frontier(SURROGATE, rs.lists())[-1] == (52, 4, 4, 4)
    standard, steep = (records.read_record("lm_256")["runs"][f"{method}_D256"] for method in ("standard", "mlr_steep"))
    early = min(trial["held_out_loss"] for trial in standard["swept"])
    assert early > max(max(of) for of in RECORDED.values())
    late = standard["held_out_loss"] - steep["held_out_loss"]
    assert 0 < late < (early - min(trial["held_out_loss"] for trial in steep["swept"])) / 2


# Its figure


def test_figure_shows_every_list_the_frontier_and_the_choice():
    best = rs.frontier(SURROGATE, rs.lists())
    fig = rank_figures.loss_by_score_cost(RECORD, SURROGATE, best, [28, 28, 4, 4])
    low, high, line, others, steep, star = fig.data
    assert line.x == pytest.approx([rs.score_cost(ranks) for ranks in best])
    assert line.y == pytest.approx([SURROGATE(ranks) for ranks in best])
    assert [b - a for a, b in zip(low.y, high.y, strict=True)] == pytest.approx([2 * SURROGATE.error] * len(best))
    means = {rs.words(ranks): sum(of) / 2 for ranks, of in RECORDED.items()}
    assert dict(zip(others.text + steep.text, others.y + steep.y, strict=True)) == pytest.approx(means, abs=5e-4)
    assert steep.text == ("32|16|8|8",)
    assert star.x + star.y == (rs.score_cost([28, 28, 4, 4]), SURROGATE([28, 28, 4, 4]))
    assert len(rank_figures.loss_by_score_cost(RECORD, SURROGATE, best).data) == 5
