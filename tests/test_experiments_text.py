"""Text: a tiny run, and checkpoints that are whole or refused by name."""

import json
from dataclasses import replace

import pytest
import torch

import structattn_minimal as sa
from structattn_minimal.experiments import corpora, text
from structattn_minimal.experiments.__main__ import main

TINY = replace(text.LM_TINY, width=32, heads=2, layers=1, context=32, steps=40, batch=8)


@pytest.mark.parametrize("name", list(TINY.methods))
def test_the_loss_falls_and_a_run_can_be_repeated(name):
    method = TINY.methods[name]
    runs = [text.train(text.build_model(TINY, method, 0), TINY, method.rate) for _ in range(2)]
    (model, losses), (again, same) = runs
    assert losses == same
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert losses[0] == pytest.approx(4.564, abs=0.01)  # log 96
    assert sum(losses[-5:]) / 5 < losses[0] - 0.8


def test_evaluation_is_the_mean_loss_over_windows():
    model = text.build_model(TINY, TINY.methods["mlr"], 0)
    torch.nn.init.normal_(model.head.weight)
    tokens = corpora.load("python-docs").train[: 5 * TINY.context + 3]
    pairs = [(tokens[i : i + 32].long(), tokens[i + 1 : i + 33].long()) for i in range(0, 160, 32)]
    losses = [torch.nn.functional.cross_entropy(model(x[None])[0], y) for x, y in pairs]
    assert text.evaluate(model, tokens) == pytest.approx(sum(losses).item() / 5, rel=1e-5)


def test_score_maps_are_what_the_layers_used():
    model = text.build_model(replace(TINY, layers=2), TINY.methods["mlr"], 0)
    tokens = torch.randint(96, (2, 32))
    maps = text.score_maps(model, tokens)
    assert [m.shape for m in maps] == [(2, 2, 32, 32)] * 2
    x = model.embed(tokens) + model.position
    torch.testing.assert_close(maps[0], model.blocks[0].attention.scores(model.blocks[0].attention_norm(x)))


def test_a_checkpoint_is_the_model(tmp_path):
    for name, method in TINY.methods.items():
        model = text.build_model(TINY, method, 3)
        torch.nn.init.normal_(model.head.weight)
        text.save_model(model, tmp_path / f"{name}.safetensors")
        loaded = text.load_model(tmp_path / f"{name}.safetensors")
        assert loaded.config == model.config
        tokens = torch.randint(96, (2, 32))
        assert torch.equal(loaded(tokens), model(tokens))


def test_missing_broken_and_mismatched_files_are_refused_by_name(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
        text.load_model(path)
    text.save_model(text.build_model(TINY, TINY.methods["mlr"], 0), path)
    whole, weights = path.read_bytes(), {name: t.clone() for name, t in load_file(path).items()}
    for broken in (b"", whole[:100], whole[:-10], b"\xff" * 64):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"weights\.safetensors is broken"):
            text.load_model(path)
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"weights\.safetensors does not say which model"):
        text.load_model(path)
    config = sa.GPTConfig(n_layers=1, n_heads=2, d_model=64, context=32, vocab_size=96)
    save_file(weights, path, metadata={"config": json.dumps(vars(config))})
    with pytest.raises(ValueError, match=r"weights\.safetensors does not fit its model: .* has shape .* should have"):
        text.load_model(path)


def test_a_run_writes_its_record_and_its_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(text.PRESETS, "quick", replace(TINY, steps=4))
    out = tmp_path / "quick.json"
    main(["text", "--preset", "quick", "--out", str(out)])
    record = json.loads(out.read_text())
    assert {"commit", "command", "seeds", "hardware", "versions", "setting", "unigram_loss"} <= record.keys()
    assert "4/4" in capsys.readouterr().out
    for name, method in record["methods"].items():
        model = text.load_model(tmp_path / f"quick_{name}.safetensors")
        assert method["params"] == sum(p.numel() for p in model.parameters())
        assert method["score_macs_a_layer"] == sa.attention_cost(model.blocks[0].attention, 32).score_macs
    with pytest.raises(SystemExit):
        main(["text", "--preset", "icl-chapter", "--out", str(out)])
