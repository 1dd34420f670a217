"""Chapter 10 says in words what its records say in numbers: how fast a step is, against what, and what it pays for."""

import pytest

from structattn_minimal.experiments.records import read_record

GPU, CPU, OTHER = (read_record(name) for name in ("decode_speed", "decode_speed_cpu", "decode_speed_cpu_2"))
EVEN, PUBLISHED = ("mlr_16x4", "mlr_32_16_16"), "mlr_authors"  # ranks in multiples of 16, and others
MLR = (*EVEN, PUBLISHED)
SIZES = (1024, 4096, 16384)
BANDWIDTH = 4.8e12  # bytes a second


def layer(kind, tokens, batch, way="fused"):
    return GPU["cases"][f"T{tokens}_B{batch}"]["attention"][kind]["layer_us"][way]


def ratio(kind, tokens, batch, way="fused"):
    return layer(kind, tokens, batch, way) / layer("standard", tokens, batch, way)


def model(kind, tokens, batch, way="fused"):
    return GPU["cases"][f"T{tokens}_B{batch}"]["attention"][kind]["tokens_per_second"][way]


def share(kind):
    rows = GPU["cases"]["T16384_B32"]["attention"]
    return rows[kind]["cached_bytes"] / rows["standard"]["cached_bytes"]


def floor(kind, tokens, batch):
    row = GPU["cases"][f"T{tokens}_B{batch}"]["attention"][kind]
    return 1e6 * row["cached_bytes"] / GPU["setting"]["layers"] / BANDWIDTH


def test_the_record_has_the_sizes_of_the_prose():
    assert list(GPU["cases"]) == [f"T{tokens}_B{batch}" for tokens in SIZES for batch in (1, 32)]
    assert "H200" in GPU["hardware"]


@pytest.mark.parametrize("kind", MLR)
def test_as_a_graph_of_operations_mlr_is_slower_everywhere(kind):
    assert all(ratio(kind, tokens, batch, "graph") > 1 for tokens in SIZES for batch in (1, 32))
    assert ratio(kind, 16384, 32, "graph") < ratio(kind, 1024, 1, "graph")  # the gap narrows


def test_with_kernels_it_turns_for_a_batch_and_not_for_the_published_list():
    for tokens in SIZES:
        assert all(share(kind) < ratio(kind, tokens, 32) < 1 for kind in EVEN)  # but not all the way
        assert ratio(PUBLISHED, tokens, 32) > 1
    assert all(ratio(kind, 1024, 32) > ratio(kind, 16384, 32) for kind in EVEN)  # ahead "by less"
    assert 1 - ratio("mlr_16x4", 16384, 32) == pytest.approx(1 / 6, abs=0.02)
    assert 0.25 < 1 - share("mlr_16x4") < 0.28  # "a good quarter"
    assert 1 - share(PUBLISHED) == pytest.approx(1 / 5, abs=0.01)
    assert model("mlr_16x4", 16384, 32) > model("standard", 16384, 32) > model(PUBLISHED, 16384, 32)


def test_one_sequence_gains_nothing():
    for tokens in SIZES:
        assert all(1 <= ratio(kind, tokens, 1) < 1.06 for kind in EVEN)
        assert max(ratio(kind, tokens, 1) for kind in EVEN) < ratio(PUBLISHED, tokens, 1) < 1.2
    assert floor("standard", 1024, 1) < 0.5 < layer("standard", 1024, 1) / 40


def test_standard_attention_is_quicker_than_with_torchs_function_by_what_does_not_grow():
    saved = [
        layer("standard_sdpa", tokens, batch, "graph") - layer("standard", tokens, batch)
        for tokens in SIZES
        for batch in (1, 32)
    ]
    assert {round(us) for us in saved} == {8, 9, 10}
    assert all(
        layer("standard", tokens, b) < layer("standard", tokens, b, "graph") for tokens in SIZES for b in (1, 32)
    )


def test_a_byte_costs_what_the_memory_asks_or_more():
    def pace(kind, way="fused"):
        more = layer(kind, 16384, 32, way) - layer(kind, 4096, 32, way)
        return more / (floor(kind, 16384, 32) - floor(kind, 4096, 32))

    assert 1 < pace("standard") < 1.08
    assert pace("standard_sdpa", "graph") == pytest.approx(pace("standard"), abs=0.02)
    assert [pace(kind) for kind in EVEN] == pytest.approx([7 / 6] * 2, abs=0.03)
    assert pace(PUBLISHED) == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "operations"), [("standard", 11), ("mlr_32_16_16", 29), ("mlr_16x4", 36), (PUBLISHED, 64)]
)
def test_an_operation_that_is_saved_costs_somewhat_less_than_two_microseconds(kind, operations):
    saved = layer(kind, 1024, 1, "graph") - layer(kind, 1024, 1)
    assert 1.5 < saved / (operations - 2) < 2


def test_the_graph_matters_most_and_eager_times_scatter():
    for kind in ("standard", *MLR):
        by_graph = model(kind, 4096, 1, "graph") / model(kind, 4096, 1, "eager")
        assert by_graph > model(kind, 4096, 1) / model(kind, 4096, 1, "graph")
    assert layer("mlr_16x4", 4096, 1, "eager") > 1.7 * layer("mlr_16x4", 16384, 1, "eager")


def test_on_a_processor_it_turns_without_a_kernel_for_batches_from_4096_tokens_on():
    for case in CPU["cases"].values():
        rows = case["attention"]
        quicker = {rows[kind]["layer_us"]["eager"] < rows["standard"]["layer_us"]["eager"] for kind in MLR}
        assert quicker == {case["batch"] > 1 and case["seq_len"] >= 4096}
    rows = CPU["cases"]["T16384_B8"]["attention"]
    time = rows["mlr_16x4"]["layer_us"]["eager"] / rows["standard"]["layer_us"]["eager"]
    assert time < share("mlr_16x4")  # "less than its share of the bytes"


def test_another_processor_agrees_on_a_long_batch_and_on_one_short_sequence():
    assert OTHER["hardware"].split(",")[0] != CPU["hardware"].split(",")[0]

    def quicker(record, case):
        rows = record["cases"][case]["attention"]
        return [rows[kind]["layer_us"]["eager"] / rows["standard"]["layer_us"]["eager"] for kind in MLR]

    for record in (CPU, OTHER):
        assert max(quicker(record, "T16384_B8")) < 1 < min(quicker(record, "T1024_B1"))
    assert min(quicker(OTHER, "T16384_B8")) > min(quicker(CPU, "T16384_B8"))  # "by less"
    between = [case for case in CPU["cases"] if case not in ("T16384_B8", "T1024_B1")]
    signs = [[[ratio < 1 for ratio in quicker(record, case)] for case in between] for record in (CPU, OTHER)]
    assert signs[0] != signs[1]
