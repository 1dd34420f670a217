"""In-context regression: the task is what it says, the models see no future, many models train as each would alone."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.utils import parameters_to_vector

import structattn_minimal as sa
from structattn_minimal.experiments import regression
from structattn_minimal.experiments.__main__ import main
from structattn_minimal.experiments.mup import rate_factors
from structattn_minimal.experiments.records import read_record, write_record
from structattn_minimal.experiments.training import Population, warmup_cosine

TINY = regression.PRESETS["icl-tiny"]
seeded = torch.Generator().manual_seed


def sample(*batch, seed=0, **options):
    return regression.sample_prompts(*batch, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("active", [None, 1, 3])
def test_sampler_moments(active):
    d, pairs = 6, 12
    x, y = sample(20_000, pairs=pairs, d=d, active=active)
    seen = active or d
    covariance = torch.einsum("bni,bnj->ij", x, x) / (len(x) * pairs)
    expected = torch.diag((torch.arange(d) < seen) / seen)
    torch.testing.assert_close(covariance, expected.float(), atol=0.01, rtol=0)
    assert y.square().mean(0) == pytest.approx([1.0] * pairs, abs=0.06)  # predicting zero scores 1 at every position
    assert x.mean().abs() < 0.01
    assert y.mean().abs() < 0.02


def test_one_w_explains_a_prompt_and_prompts_differ():
    x, y = sample(3, pairs=9, d=4)
    w = torch.linalg.lstsq(x, y[..., None]).solution
    torch.testing.assert_close((x @ w).squeeze(-1), y, atol=1e-4, rtol=1e-4)
    assert (w[0] - w[1]).norm() > 0.1


def test_tokens_interleave():
    x, y = sample(2, pairs=3, d=4)
    tokens = regression.interleave(x, y)
    assert tokens.shape == (2, 6, 4)
    for i in range(3):
        assert torch.equal(tokens[:, 2 * i], x[:, i])
        assert torch.equal(tokens[:, 2 * i + 1, 0], y[:, i])
        assert not tokens[:, 2 * i + 1, 1:].any()


def test_curriculum_grows_from_one_dimension_to_all_and_leaks_nothing():
    d, steps = 5, 1000
    active = [regression.active_dimensions(step, steps, d) for step in range(steps)]
    assert active == sorted(active)
    assert set(active) == set(range(1, d + 1))
    assert active[0] == 1
    assert active.index(d) < 0.3 * steps
    for k in range(1, d + 1):
        x, y = sample(64, pairs=2 * d, d=d, active=k)
        assert not x[..., k:].any()
        answers = regression.least_squares(x[..., :k], y)  # the active dimensions alone determine y
        torch.testing.assert_close(answers[:, -1], y[:, -1], atol=2e-2, rtol=2e-2)


def check_curriculum(active_dimensions, steps=1000, share=0.4):
    for d in (1, 5, 32):
        grown = {
            power: [active_dimensions(step, steps, d, share, power) for step in range(steps)] for power in (1, 1.5, 2)
        }
        for power, active in grown.items():
            assert active == sorted(active)
            assert set(active) == set(range(1, d + 1))  # none is left out
            assert all(active_dimensions(step, steps, d, share, power) == d for step in (int(share * steps), steps))
            for a in range(1, d):  # when (step / (share * steps)) ** power = a / d, the next one joins
                assert active.index(a + 1) == pytest.approx((a / d) ** (1 / power) * share * steps, abs=1.001)
        assert grown[1] == [active_dimensions(step, steps, d, share) for step in range(steps)]
        assert grown[1] == [min(d, 1 + int(step / (share * steps) * d)) for step in range(steps)]
        assert all(slow <= even for slow, even in zip(grown[2], grown[1], strict=True))
        if d > 1:
            few = [sum(a <= max(1, d // 8) for a in grown[power]) for power in (1, 1.5, 2)]
            assert few[0] < few[1] < few[2]  # over 1, few dimensions stay for longer


def test_a_curriculum_of_higher_power_begins_slowly_and_ends_in_time():
    check_curriculum(regression.active_dimensions)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda step, steps, d, share, power=1.0: min(d, 1 + int((step / (share * steps) * d) ** power)),
        lambda step, steps, d, share, power=1.0: min(d, 1 + int((step / (share * steps)) ** (1 / power) * d)),
        lambda step, steps, d, share, power=1.0: min(d, 1 + int((step / steps) ** power / share * d)),
        lambda step, steps, d, share, power=1.0: min(d, 1 + int(step / (share * steps) * d)),
    ],
    ids=["the power is of d too", "its inverse", "the share comes after it", "none"],
)
def test_a_wrong_curriculum_would_be_found(wrong):
    with pytest.raises(AssertionError):
        check_curriculum(wrong)


def test_least_squares_is_lstsq_and_exact_from_d_pairs_on():
    d = 4
    x, y = (t.double() for t in sample(50, pairs=2 * d, d=d))
    y = (x @ torch.randn(50, d, 1, dtype=torch.float64, generator=seeded(1))).squeeze(-1)
    answers = regression.least_squares(x, y)
    for n in range(1, 2 * d):
        w = torch.linalg.lstsq(x[:, :n], y[:, :n, None], driver="gelsd").solution  # the shortest, if there are many
        torch.testing.assert_close(answers[:, n], (x[:, n, None] @ w).flatten())
    assert not answers[:, 0].any()
    torch.testing.assert_close(answers[:, d:], y[:, d:], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("d", [2, 5])
def test_least_squares_error_is_what_is_measured(d):
    x, y = (t.double() for t in sample(4000, pairs=2 * d, d=d))
    measured = (regression.least_squares(x, y) - y).square().mean(0)
    expected = [regression.least_squares_error(n, d) for n in range(2 * d)]
    assert measured.tolist() == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("d", [2, 5])
def test_one_gradient_step_has_the_stated_error_and_no_better_size(d):
    x, y = sample(40_000, pairs=2 * d, d=d)
    for n in (1, d, 2 * d - 1):
        direction = torch.einsum("bni,bn->bi", x[:, :n], y[:, :n])
        raw = (x[:, n] * direction).sum(-1)

        def error(size, raw=raw, target=y[:, n]):
            return (size * raw - target).square().mean().item()

        best = d / (n + d + 1)
        assert error(best) == pytest.approx(regression.gradient_step_error(n, d), rel=0.08)
        assert error(best) < min(error(0.7 * best), error(1.3 * best))


@pytest.mark.parametrize("name", list(regression.CHAPTER.methods))
def test_no_prediction_sees_its_target_or_what_follows(name):
    preset = regression.CHAPTER
    population = regression.build(replace(TINY, layers=2, methods={name: preset.methods[name]}))[name]
    with torch.no_grad():
        population.theta.normal_(std=0.3)  # at the start the read-out is zero, and a test of it would be empty
    x, y = sample(2, 3, pairs=preset.pairs, d=preset.d)
    before = regression.predictions(population(regression.interleave(x, y)))
    for i in range(preset.pairs):
        changed = y.clone()
        changed[..., i:] += 1.0
        after = regression.predictions(population(regression.interleave(x, changed)))
        assert torch.equal(after[..., : i + 1], before[..., : i + 1])
        assert i + 1 == preset.pairs or not torch.allclose(after[..., i + 1 :], before[..., i + 1 :])


@pytest.mark.parametrize("name", list(regression.CHAPTER.methods))
def test_a_population_trains_as_each_model_alone(name):
    """Outputs, and weights after five steps of torch's own Adam with one learning rate for each parameter."""
    method, rates, seeds = regression.CHAPTER.methods[name], [0.01, 0.003], [3, 4]
    models = [regression.build_model(TINY, method, seed).double() for seed in seeds]
    factors = rate_factors(models[0], base_width=8)
    population = Population(models, rates, factors)
    optimizers = [
        torch.optim.Adam(
            [{"params": [p], "lr": rate * factors[n]} for n, p in model.named_parameters()],
            betas=Population.betas,
            eps=Population.eps,
        )
        for model, rate in zip(models, rates, strict=True)
    ]
    for step in range(5):
        x, y = (t.double() for t in sample(2, 7, pairs=TINY.pairs, d=TINY.d, seed=step))
        together = regression.squared_errors(population(regression.interleave(x, y)), y)[0]
        for i, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            loss = (regression.predictions(model(regression.interleave(x[i], y[i]))) - y[i]).square().mean()
            torch.testing.assert_close(together[i], loss)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), Population.clip)
            optimizer.step()
        population.step(together, rate=1.0)
    for i, model in enumerate(models):
        torch.testing.assert_close(
            population.theta[i].detach(), parameters_to_vector(model.parameters()), atol=1e-6, rtol=1e-6
        )
        copy = population.model(i)
        torch.testing.assert_close(copy(regression.interleave(x[i], y[i])), model(regression.interleave(x[i], y[i])))


def test_population_refuses_what_does_not_fit():
    method = TINY.methods["btt"]
    model = regression.build_model(TINY, method, 0)
    other = regression.build_model(replace(TINY, layers=2), method, 0)
    factors = rate_factors(model, 16)
    with pytest.raises(ValueError, match="same parameters"):
        Population([model, other], [0.1, 0.1], factors)
    with pytest.raises(ValueError, match="one rate for each of 1 models, got 2"):
        Population([model], [0.1, 0.1], factors)


def test_mup_rate_of_each_factor():
    def factors(width, **options):
        config = sa.GPTConfig(n_layers=1, n_heads=4, d_model=width, context=8, d_in=4, d_out=1, **options)
        return rate_factors(sa.GPT(config), base_width=64)

    standard = factors(32)
    assert standard["blocks.0.attention.query.weight"] == 64 / 32
    assert standard["blocks.0.feed_forward.contract.weight"] == 64 / (4 * 32)
    assert standard["head.weight"] == 64 / 32
    unscaled = ("embed.weight", "position", "norm.weight", "blocks.0.attention_norm.weight")
    assert [standard[name] for name in unscaled] == [1.0] * 4

    btt = factors(32, attention="btt", attention_options={"btt_rank": 2})  # 32 = 4 x 8: c = 4, d = 8
    assert btt["blocks.0.attention.right"] == 64 / 8
    assert btt["blocks.0.attention.left"] == 64 / (4 * 2)

    mlr = factors(32, attention="bilinear_mlr", attention_options={"ranks": (4, 2, 2)})
    assert [mlr[f"blocks.0.attention.{kind}.{l}"] for kind in ("query", "key") for l in range(3)] == [2, 4, 8] * 2

    # from width to width the rate of every hidden factor falls with its own fan_in
    wide = factors(128, attention="btt", attention_options={"btt_rank": 2})  # 128 = 8 x 16
    assert wide["blocks.0.attention.right"] == btt["blocks.0.attention.right"] / 2
    assert wide["blocks.0.attention.value.weight"] == btt["blocks.0.attention.value.weight"] / 4


def test_mup_knows_every_parameter_or_says_so():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.strange = torch.nn.Parameter(torch.zeros(3))

    with pytest.raises(ValueError, match="strange"):
        rate_factors(Odd(), 64)


def test_schedule_rises_and_falls():
    rates = [warmup_cosine(step, 100, warmup=0.2) for step in range(100)]
    peak = rates.index(max(rates))
    assert 15 <= peak <= 20
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-3


def test_equal_parameters_in_the_chapter():
    populations = regression.build(replace(regression.CHAPTER, seeds=(0,)))
    assert len({population.theta.shape[1] for population in populations.values()}) == 1


def test_training_lowers_the_loss_and_its_record_says_so(tmp_path, monkeypatch, capsys):
    quick = replace(TINY, d=1, layers=2, steps=100, batch=64)  # y_2 = (y_1 / x_1) x_2
    monkeypatch.setitem(regression.PRESETS, "quick", quick)
    out = tmp_path / "new" / "quick.json"
    main(["regression", "--preset", "quick", "--out", str(out)])
    record = json.loads(out.read_text())
    assert {"commit", "command", "seeds", "hardware", "versions", "wall_seconds", "setting"} <= record.keys()
    assert record["seeds"] == [0, 1]
    assert "--preset quick" in record["command"]
    for method in record["methods"].values():
        start, end = (torch.tensor(method["curve"]["loss"])[half].mean() for half in (slice(10), slice(-10, None)))
        assert end < 0.9 * start
        assert len(method["by_position"]) == quick.pairs
        assert method["last"] == method["by_position"][-1] == pytest.approx(sum(method["by_seed"]) / 2, abs=1e-3)
    assert "100/100" in capsys.readouterr().out


def test_a_training_uses_one_core_and_gives_the_others_back(monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []
    monkeypatch.setattr(regression, "warmup_cosine", lambda *_: seen.append(torch.get_num_threads()) or 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):  # even where it breaks off
            regression.train(regression.build(TINY), TINY)
        assert (set(seen), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(threads)


def test_training_that_diverges_says_so():
    preset = replace(TINY, methods={"btt": replace(TINY.methods["btt"], rate=float("nan"))}, steps=3)
    with pytest.raises(FloatingPointError, match="btt"):
        regression.train(regression.build(preset), preset)


def test_a_sweep_tries_each_rate_on_each_seed():
    preset = replace(TINY, rates=(1e-3, 1e-2), steps=2)
    results = regression.run(preset)
    for method in results["methods"].values():
        assert list(method["rates"]) == ["0.001", "0.01"]
        assert all(len(row["by_seed"]) == 2 for row in method["rates"].values())
        assert method["best_rate"] in (1e-3, 1e-2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_record_refuses_what_is_not_a_number(tmp_path, bad):
    out = tmp_path / "record.json"
    write = partial(write_record, out, command="python -m x", seeds=[0])
    write({"a": {"b": [1.0, 2.0]}})
    kept = out.read_text()
    with pytest.raises(ValueError, match=r"a\.b\.1"):
        write({"a": {"b": [1.0, bad]}})
    assert out.read_text() == kept
    with pytest.raises(ValueError, match="commit"):
        write({"commit": "mine"})
    with pytest.raises(ValueError, match="seed"):
        write_record(out, {}, command="python -m x", seeds=[])
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_record_of_the_book_is_read_by_its_name():
    assert read_record("lm_tiny")["command"].startswith("python -m structattn_minimal")
    with pytest.raises(FileNotFoundError, match="no record called 'lm_huge' comes with the book"):
        read_record("lm_huge")


def test_attention_maps_are_what_the_model_used():
    model = regression.build_model(replace(TINY, layers=2), TINY.methods["btt"], 0)
    torch.nn.init.normal_(model.blocks[0].attention.out.weight)
    x, y = sample(3, pairs=TINY.pairs, d=TINY.d)
    tokens, inputs = regression.interleave(x, y), []
    model.blocks[1].attention.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(tokens)
    first, second = regression.attention_maps(model, tokens)
    torch.testing.assert_close(second, model.blocks[1].attention.scores(inputs[0]).softmax(-1))
    for weights in (first, second):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert not weights.triu(1).any()
