"""Chapter 2: the nearest-key task, the population that trains many layers at once, what low rank cannot see."""

import json
from math import sqrt
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa
from structattn_minimal.experiments import low_rank, nearest
from structattn_minimal.experiments.nearest import EQUAL_BUDGET, FOUR_BUDGETS, POINTS, SINGLE_HEADS, WIDTH

ALL = EQUAL_BUDGET | SINGLE_HEADS | FOUR_BUDGETS
RECORD = Path(__file__).parents[1] / "book" / "results" / "nearest.json"


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_target_is_the_nearest_other_point():
    x, found = nearest.Prompts([3, 4]).draw(2)
    assert x.shape == (2, 2, POINTS, WIDTH)
    assert torch.allclose(x.norm(dim=-1), torch.tensor(sqrt(WIDTH)))
    for points, answers in zip(x.flatten(0, 1), found.flatten(0, 1), strict=True):
        for i, answer in enumerate(answers.tolist()):
            distances = {j: (points[i] - points[j]).norm().item() for j in range(POINTS) if j != i}
            assert answer == min(distances, key=distances.get)


def test_target_under_a_relation_is_the_other_point_that_it_prefers():
    relations = nearest.rotations([3, 4])
    assert torch.allclose(relations @ relations.mT, torch.eye(WIDTH), atol=1e-5)
    x, found = nearest.Prompts([3, 4], relations=relations).draw(2)
    for points, relation, answers in zip(x[:, 0], relations, found[:, 0], strict=True):
        for i, answer in enumerate(answers.tolist()):
            scores = {j: (points[i] @ relation @ points[j]).item() for j in range(POINTS) if j != i}
            assert answer == max(scores, key=scores.get)


def test_expected_error_is_the_mean_over_values():
    weights, target = torch.rand(5, 5), torch.tensor([1, 0, 3, 2, 0])
    y = torch.randn(400_000, 5)
    measured = (y @ weights.T - y[:, target]).square().mean(0)
    torch.testing.assert_close(nearest.expected_error(weights, target), measured, rtol=0.02, atol=0)
    assert nearest.expected_error(torch.zeros(5, 5), target).tolist() == [1] * 5
    assert nearest.expected_error(torch.eye(5)[target], target).tolist() == [0] * 5


def layer_by_layer(scorer: nearest.Scorer, seed: int, rate: float, steps: int):
    """One layer trained alone, written with a dense form, a loop over heads and torch's own Adam."""
    torch.manual_seed(seed)
    heads = [scorer.matrix() for _ in range(scorer.heads)]
    output = torch.full((scorer.heads,), 1 / scorer.heads, requires_grad=True)
    optimiser = torch.optim.Adam([*(p for head in heads for p in head.parameters()), output], lr=1, betas=(0.9, 0.95))
    prompts = nearest.Prompts([seed])
    for step in range(steps):
        (x,), (target,) = prompts.draw(nearest.PROMPTS)
        weights = 0
        for head, weight in zip(heads, output, strict=True):
            scores = x @ head.to_dense() @ x.mT / sqrt(WIDTH)
            scores = scores - torch.diag_embed(torch.full((POINTS,), torch.inf)).nan_to_num(0, posinf=torch.inf)
            weights = weights + weight * scores.softmax(-1)
        error = (weights - torch.nn.functional.one_hot(target, POINTS)).square().sum(-1).mean()
        cosine = (1 + torch.cos(torch.tensor(torch.pi * step / steps)).item()) / 2
        optimiser.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20) * cosine
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    return heads, output, error


@pytest.mark.usefixtures("float64")
def test_batched_training_is_single_training():
    scorers = [nearest.standard(3, heads=2), nearest.btt(heads=3), nearest.multi_level(2, 1, 1, heads=2)]
    rates, seeds, steps, heard = [0.03, 0.1, 0.05], [5, 6], 4, []
    population = nearest.Population(scorers, seeds)
    nearest.train(population, rates, steps=steps, report=lambda step, errors: heard.append(errors))
    for s, (scorer, rate) in enumerate(zip(scorers, rates, strict=True)):
        for k, seed in enumerate(seeds):
            heads, output, error = layer_by_layer(scorer, seed, rate, steps)
            mine = slice(k * scorer.heads, (k + 1) * scorer.heads)
            torch.testing.assert_close(heard[-1][s, k], error.detach(), rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(population.outputs[s][mine], output, rtol=1e-9, atol=1e-12)
            for name, stacked in population.stacks[s][1].items():
                alone = torch.stack([dict(head.named_parameters())[name] for head in heads])
                torch.testing.assert_close(stacked[mine], alone, rtol=1e-9, atol=1e-12)


def test_weights_are_those_of_the_dense_forms_and_skip_oneself():
    population = nearest.Population([nearest.btt(heads=2)], [7])
    torch.manual_seed(7)
    forms = torch.stack([sa.BTT((4, 4), (4, 4)).to_dense() for _ in range(2)])
    x, _ = nearest.Prompts([7]).draw(3)
    scores = torch.einsum("bic,hcd,bjd->hbij", x[0], forms, x[0]) / sqrt(WIDTH)
    scores.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    torch.testing.assert_close(population.weights(x)[0], scores.softmax(-1).mean(0))
    assert population.weights(x).diagonal(dim1=-2, dim2=-1).abs().max() == 0


@pytest.mark.parametrize("name", ALL)
def test_budgets_are_equal_as_claimed(name):
    scorer = ALL[name]
    held = scorer.heads * sum(p.numel() for p in scorer.matrix().parameters())
    single = 2 * WIDTH**1.5 if name == "single_btt" else 2 * WIDTH * scorer.rank
    assert scorer.params == held == (512 if name in EQUAL_BUDGET else 2048 if name in FOUR_BUDGETS else single)
    assert torch.linalg.matrix_rank(scorer.matrix().to_dense()).item() == scorer.rank


def test_budgets_are_those_of_the_attention_layers():
    off = {"qk_norm": False}
    layers = [sa.StandardAttention(WIDTH, heads, **off) for heads in (1, 2, 4, 8, 16)]
    layers += [sa.BilinearBTTAttention(WIDTH, 4, **off), sa.BilinearMLRAttention(WIDTH, 4, ranks=(2, 1, 1), **off)]
    assert {layer.query_key_params() for layer in layers} == {512} == {s.params for s in EQUAL_BUDGET.values()}


def test_evaluation_is_on_fresh_prompts():
    seeds = [0, 1, 2, 100, 101]
    trained, fresh = (nearest.Prompts(seeds, fresh=fresh).draw(300)[0].flatten(0, 2) for fresh in (False, True))
    assert len(set(map(tuple, trained.tolist()))) == len(trained)  # seeds share no point either
    assert not set(map(tuple, trained.tolist())) & set(map(tuple, fresh.tolist()))


def test_evaluation_repeats_itself_and_leaves_the_layers_alone():
    population = nearest.Population([nearest.standard(2, heads=1)], [0])
    assert torch.equal(nearest.evaluate(population, batches=2)[0], nearest.evaluate(population, batches=2)[0])


def test_full_rank_learns_and_rank_one_cannot():
    population = nearest.Population(
        [EQUAL_BUDGET["standard_r16"], EQUAL_BUDGET["btt"], SINGLE_HEADS["single_r1"]], [0, 1]
    )
    before, _ = nearest.evaluate(population, batches=8)
    nearest.train(population, [0.06, 0.06, 0.06], steps=120)
    (full, btt, one), (full_hits, btt_hits, one_hits) = (
        each.mean(1) for each in nearest.evaluate(population, batches=8)
    )
    assert before.min() > 0.9
    assert full < 0.5
    assert btt < 0.5
    assert one > 0.93
    assert min(full_hits, btt_hits) > 0.7 > 0.15 > one_hits


def test_ceiling_falls_with_rank_and_to_zero_at_full_rank():
    errors = [nearest.ceiling(rank) for rank in (1, 4, 8, 12, 15, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.9
    assert errors[-2] > 0.25
    assert errors[-1] < 0.01


@given(st.integers(2, 12), st.data())
def test_blind_spot_on_any_low_rank_head(d, data):
    rank = data.draw(st.integers(1, d - 1))
    torch.manual_seed(data.draw(st.integers(0, 10_000)))
    w_q, w_k = torch.randn(2, d, rank, dtype=torch.float64)
    if data.draw(st.booleans()):
        w_q = w_k  # then the near key is invisible as a query too
    m = w_q @ w_k.T
    for tilt in (0.1, 0.01):
        query, near, far = low_rank.blind_spot(w_q, w_k, tilt)
        for vector in (query, near, far):
            assert vector.norm().item() == pytest.approx(1)
        assert query @ near >= 1 / sqrt(1 + tilt**2) - 1e-9  # as near as we like
        assert query @ far <= tilt + 1e-9  # at almost a right angle
        assert abs(query @ m @ near) < 1e-9 < query @ m @ far  # and yet preferred


def test_blind_spot_refuses_full_rank_and_no_form():
    with pytest.raises(ValueError, match="rank must be less than d = 4"):
        low_rank.blind_spot(torch.eye(4), torch.eye(4))
    with pytest.raises(ValueError, match="must not be zero"):
        low_rank.blind_spot(torch.zeros(4, 2), torch.zeros(4, 2))
    with pytest.raises((ValueError, TypeError)):
        low_rank.blind_spot(torch.zeros(4, 2), torch.zeros(4, 3))


def test_lost_share_is_what_the_best_form_leaves():
    assert low_rank.lost_share(torch.eye(16), 4) == pytest.approx(1 - 4 / 16)
    target = torch.randn(8, 8, dtype=torch.float64)
    left, values, right = torch.linalg.svd(target)
    lost = low_rank.lost_share(target, 3)
    x, y = torch.randn(2, 400_000, 8, dtype=torch.float64)
    residual = target - (left[:, :3] * values[:3]) @ right[:3]
    measured = (x @ residual * y).sum(-1).square().mean() / (x @ target * y).sum(-1).square().mean()
    assert measured.item() == pytest.approx(lost, rel=0.05)
    for _ in range(50):  # any other form of rank 3, at its best size
        m = torch.randn(8, 3, dtype=torch.float64) @ torch.randn(3, 8, dtype=torch.float64)
        m = m * (m * target).sum() / m.square().sum()
        assert (target - m).square().sum() / target.square().sum() > lost


@pytest.mark.parametrize(("d", "rank"), [(2, 1), (8, 2), (16, 8), (16, 12), (64, 16)])
def test_two_keys_are_told_apart_as_often_as_the_formula_says(d, rank):
    measured = low_rank.right_share(d, rank, 2, trials=40_000)
    assert measured == pytest.approx(low_rank.right_of_two(d, rank), abs=4 * 0.5 / sqrt(40_000))


def test_half_the_rank_is_right_three_times_in_four():
    assert low_rank.right_of_two(16, 8) == pytest.approx(0.75, abs=1e-9)


def test_right_share_comes_near_its_limit_and_full_rank_is_always_right():
    assert low_rank.right_share(16, 16, 31) == 1
    for fraction in (0.25, 0.75):
        measured = low_rank.right_share(256, int(256 * fraction), 31, trials=4096)
        assert measured == pytest.approx(low_rank.gaussian_share(fraction, 31), abs=0.04)
        assert low_rank.gaussian_share(fraction, 31) < low_rank.gaussian_share(fraction + 0.2, 31)


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text())


def test_record_holds_every_scorer_at_its_best_swept_rate(record):
    assert record["main"].keys() == (EQUAL_BUDGET | SINGLE_HEADS).keys()
    assert record["many"].keys() == FOUR_BUDGETS.keys()
    for job in ("main", "many", "rotated"):
        for name, row in record[job].items():
            swept = record["sweeps"][job][name]
            assert len(swept) == len(nearest.SWEPT_RATES)
            assert row["learning_rate"] == float(min(swept, key=swept.get))
            assert (row["params"], row["rank"], row["heads"]) == (ALL[name].params, ALL[name].rank, ALL[name].heads)


def test_chapter_trains_at_the_recorded_rates(record):
    assert {name: row["learning_rate"] for name, row in record["main"].items()} == nearest.LEARNING_RATES


def test_record_bears_the_chapters_claims(record):
    errors = {name: row["errors"] for name, row in record["main"].items()}
    low = [f"standard_r{r}" for r in (1, 2, 4, 8)]
    assert min(min(errors[name]) for name in low) > 0.6
    assert max(max(errors[name]) for name in ("standard_r16", "btt", "mlr_4_2_2", "single_btt")) < 0.15
    assert min(min(row["errors"]) for row in record["many"].values()) > 0.4
    for r in (1, 2, 4, 8, 12, 14, 15):  # a single trained head reaches what its rank allows, and no more
        mean, limit = record["main"][f"single_r{r}"]["error"], record["ceiling"][f"r{r}"]
        assert limit - 0.02 < mean < limit + 0.08
