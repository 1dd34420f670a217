"""The benchmark of decoding, in small and on a CPU: what it measures is a step, and what it says can be a record."""

import json

import pytest
import torch
from drawing import assert_close, randn

import structattn_minimal as sa
from structattn_minimal.bench import decode
from structattn_minimal.experiments.records import read_record, write_record

# Numbers of a key that are held a token: E, of 64.
E = {"standard": 64, "standard_sdpa": 64, "mlr_32_16_16": 44, "mlr_16x4": 30, "mlr_authors": 38.453125}
SHARES = {kind: (keys + 64) / 128 for kind, keys in E.items()}


@pytest.fixture(scope="module")
def results():
    small = {"layers": 2, "heads": 2, "repeats": 2, "steps": 2, "device": "cpu"}
    return decode.measure_all((128, 256), (1, 3), **small)


def test_every_case_holds_the_bytes_of_its_closed_form_and_has_its_times(results):
    assert list(results["cases"]) == ["T128_B1", "T128_B3", "T256_B1", "T256_B3"]
    for case in results["cases"].values():
        assert case["attention"].keys() == SHARES.keys()
        for kind, row in case["attention"].items():
            full = 2 * 64 * case["seq_len"]  # float32 keys and values of one head and row
            assert row["cached_bytes"] == SHARES[kind] * 4 * full * case["batch"] * 2 * 2
            assert row["layer_us"].keys() == {"eager"}
            assert row["layer_us"]["eager"] > 0
            if kind != "standard_sdpa":
                assert row["tokens_per_second"]["eager"] > 0


def test_it_can_be_written_as_a_record_and_shown(results, tmp_path, capsys):
    write_record(tmp_path / "decode_speed.json", results, command="test", seeds=[0])
    assert json.loads((tmp_path / "decode_speed.json").read_text())["cases"] == results["cases"]
    decode.print_table(results)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("layer, us a step, eager")
    assert len(lines) == 2 + len(results["cases"]) * len(SHARES)
    assert sum("(0.73x)" in line for line in lines) >= len(results["cases"])


@pytest.mark.parametrize(("name", "ways"), [("decode_speed", "eager / graph / fused"), ("decode_speed_cpu", "eager")])
def test_the_records_of_the_book_are_shown_way_by_way(name, ways, capsys):
    record = read_record(name)
    decode.print_table(record)
    _, head, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith(f"layer, us a step, {ways}")
    cases = [row for case in record["cases"].values() for row in case["attention"].items()]
    for line, (kind, row) in zip(rows, cases, strict=True):
        anchor = kind == "standard_sdpa"  # which has no model, and no kernels of ours
        measured = set(ways.split(" / ")) - ({"fused"} if anchor else set())
        assert row["layer_us"].keys() == measured
        assert ("tokens_per_second" in row) != anchor
        assert line.count("x)") == 1 + len(measured) * (2 - anchor)


def test_the_anchor_computes_what_the_cache_computes():
    attention, x = sa.StandardAttention(32, 2).double(), randn(3, 1, 32)
    ours, anchor = (sa.AttentionCache(attention, 3, 16) for _ in range(2))
    for cache in (ours, anchor):
        torch.manual_seed(0)
        decode.fill(cache)
    decode.rewind([ours])
    with torch.no_grad():
        assert_close(decode.sdpa_step(anchor, x), ours.extend(x))
    assert_close(anchor.keys[0].buffer, ours.keys[0].buffer)


def test_a_rewound_step_costs_the_same_scores_again_and_is_never_refused():
    cache = sa.AttentionCache(sa.MLRAttention(16, 2, ranks=(4, 4), context=8), 2, 8)
    decode.fill(cache)
    for _ in range(4):
        decode.rewind([cache])
        assert cache.extend(torch.randn(2, 1, 16)).isfinite().all()
    with pytest.raises(ValueError, match="capacity = 8"):
        cache.extend(torch.randn(2, 1, 16))


def test_buffers_that_are_not_the_closed_form_stop_the_benchmark(monkeypatch):
    monkeypatch.setattr(sa.AttentionCache, "elements", 1)
    with pytest.raises(AssertionError, match=r"the buffers hold .* the closed form says"):
        decode.measure_all((128,), (1,), layers=1, heads=1, repeats=1, steps=1, device="cpu")
