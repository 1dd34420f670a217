"""Chapter 12 takes records as they come: its cells run and say what is there, for none, for whole and for odd ones."""

import re
from pathlib import Path

import pytest
from chapter_cells import run_cells
from test_experiments_text_claims import model, run
from test_experiments_text_claims import records as bare

from structattn_minimal.experiments import rank_surrogate, records, text_claims
from structattn_minimal.experiments.presets import COMPARED, READERS, ROTARY

SOURCE = (Path(__file__).parents[1] / "chapters/12_language_models.md").read_text(encoding="utf-8")
OTHERS = ("FairBudget", "macs(method", "docs = load", "LiveCurve", "measured = ", "import continuation")
CURVE = {"steps": [50, 100], "loss": [3.0, 2.0]}
SETTING = {"rates": [1e-3, 2e-3], "sweep_steps": 10, "seeds": [0, 1], "steps": 100, "batch": 8, "context": 8}


def recorded(gain: float, seconds: float = 1.0) -> dict[str, dict]:
    """Three widths of every method and the long context; MLR attention is better by `gain`, and a step of it takes so
    many seconds where a standard one takes one.
    """
    found = {}
    for name, width, loss in (("256", 256, 1.3), ("384", 384, 1.2), ("512", 512, 1.1), ("512_long", 512, 1.0)):
        whole = bare(*(reader(method, width, loss, gain, seconds) for method in COMPARED))["256"]
        found[f"lm_{name}"] = whole | {"setting": SETTING | {"widths": [width]}}
    cases = {
        case: {m: {"label": m} | dict.fromkeys(("ms", "lowest", "highest"), 1.0 + (m != "standard")) for m in COMPARED}
        for case in text_claims.STEP_AIMS
    }
    return found | {"step_speed": {"cases": cases, "hardware": "a processor, A"}}


def reader(method: str, width: int, loss: float, gain: float, seconds: float) -> dict:
    ours = method in text_claims.MLR
    loss -= gain if ours else 0
    found = run(method, width, (loss, loss + 0.001), seconds_a_step=seconds if ours else 1.0)
    for seed in found["by_seed"]:
        seed |= {"curve": CURVE, "diverged_at": None}
    swept = [{"held_out_loss": loss + 0.1, "rate": 1e-3}, {"held_out_loss": None, "rate": 2e-3}]
    rate = {"best_rate": 1e-3, "best_rate_is_at_the_edge": True, "swept": swept}
    return found | rate | {"status": "finished", "seconds_a_step": found["seconds_a_model"] / 100}


def odd() -> dict[str, dict]:
    """What can go wrong: a run that failed, one that lost all seeds, one that lost one, one not made, two widths."""
    found = recorded(0.05)
    narrow, wide = found["lm_256"], found["lm_512"]
    failed = {"method": "mlr_coarse", "width": 256, "status": "failed", "error": "out of memory"}
    narrow["runs"]["mlr_coarse_D256"] = failed
    gone = {"by_seed": [model(None) | {"diverged_at": 3}], "held_out_loss": None, "lowest": None, "highest": None}
    narrow["runs"]["mlr_steep_D256"] |= gone
    narrow["runs"]["mlr_gain_D256"]["by_seed"].append(model(None) | {"diverged_at": 3})
    del wide["runs"]["standard_D512"]
    wide["missing"] = ["standard_D512"]
    return {name: found[name] for name in ("lm_256", "lm_512")}


@pytest.fixture
def read(monkeypatch, capsys):
    """What the chapter's cells print, given these records."""

    def cells(there: dict[str, dict]) -> str:
        def read_record(name: str) -> dict:
            if name not in there:
                raise FileNotFoundError(name)
            return there[name]

        monkeypatch.setattr(text_claims, "read_record", read_record)
        monkeypatch.setattr(records, "read_record", read_record)
        return run_cells(monkeypatch, capsys, SOURCE, without=OTHERS)

    return cells


def board(printed: str) -> list[list[str]]:
    """The words of the first table of verdicts, a row a width."""
    first = printed.split("training MACs  GPU-seconds")[1].split("MLR")[1]
    return [re.findall("holds|does not hold|not decided", row) for row in first.splitlines() if "D = " in row]


def leads(printed: str) -> set[str]:
    """Of the MLR models in the table of two lengths, what their losses are less that of standard attention."""
    rows = printed.split("against standard  million characters")[1].split("at equal ...")[0].splitlines()
    return {re.search(r" ([+-]\d\.\d{4}) ", row)[1] for row in rows if "MLR" in row and "rotary" not in row}


def test_nothing_recorded_is_said_and_nothing_claimed(read):
    printed = read({})
    assert printed.count("not recorded yet") > 8
    assert "figure of 0 lines" in printed
    assert not re.search(r"holds\b|does not hold", printed)


def test_better_everywhere(read):
    printed = read(recorded(0.05))
    assert board(printed) == [["holds"] * 3] * 3
    assert "at equal GPU-seconds: below standard attention in 6 of 6, open in 0" in printed
    assert "not recorded yet" in printed  # lm_768
    assert leads(printed) == {"-0.0500"}


def test_better_but_slower_is_open_in_seconds(read):
    assert board(read(recorded(0.05, seconds=1.5))) == [["holds", "holds", "not decided"]] * 3


def test_worse_everywhere(read):
    printed = read(recorded(-0.05))
    assert board(printed) == [["does not hold"] * 3] * 3
    assert "all seeds higher" in printed
    assert "below standard attention in 0 of 6, open in 0" in printed
    assert leads(printed) == {"+0.0500"}


def test_what_went_wrong_is_told_and_stops_nothing(read):
    printed = read(odd())
    for line in (
        "lm_384: not recorded yet",
        "lm_512_long: not recorded yet",
        "lm_256, mlr_coarse_D256: failed",
        "lm_256, mlr_gain_D256: 1 of 3 seeds diverged",
        "lm_256, mlr_steep_D256: every seed diverged",
        "lm_512, standard_D512: not made",
    ):
        assert line in printed
    assert board(printed) == [["does not hold"] * 3, ["not decided"] * 3]


def test_the_book_s_own_records_fill_every_table(read):
    names = ("lm_ranks", "step_speed", *(f"lm_{name}" for name in (*text_claims.NAMES, *text_claims.MORE, "512_long")))
    printed = read({name: records.read_record(name) for name in names})
    assert "not recorded yet" not in printed
    by_rate = printed.split("between the best and the worst rate\n")[1].split("\nbetween the methods")[0].splitlines()
    spans = {row[:40].strip(): re.findall(r"\b0\.\d{3}\b", row) for row in by_rate[1:]}
    assert all(len(spans[READERS[method].label]) == 4 for method in ("standard", *WINDOWS, *text_claims.MLR))


# What the prose says of the records in words


RECORDS, LONG = text_claims.recorded(), text_claims.recorded(text_claims.LONG)
FINE = ("mlr", "mlr_gain", "mlr_steep", "mlr_steep_sum")
WIDTHS = (256, 384, 512, 768)
WINDOWS = ("swa", "gswa", "sequential")


def at(width: int, method: str) -> dict:
    return text_claims.at_width(RECORDS, method, width)[0]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_windows_beat_standard_attention_at_no_width_and_mlr_at_all():
    for width in text_claims.widths_of(RECORDS):
        assert not any(text_claims.beats(at(width, method), at(width, "standard")) for method in WINDOWS)
        assert all(text_claims.beats(at(width, method), at(width, "standard")) for method in text_claims.MLR)
        assert text_claims.below_standard(RECORDS, "sequential", width, "training_macs_a_model").holds is None


def test_the_lead_is_smallest_at_the_largest_width():
    for method in text_claims.MLR:
        lead = {w: 1 - at(w, method)["held_out_loss"] / at(w, "standard")["held_out_loss"] for w in WIDTHS}
        assert min(lead, key=lead.get) == 768
        assert lead[768] < lead[256] / 2
    steep, standard = (text_claims.scaling(RECORDS, m, "seconds_a_model") for m in ("mlr_steep", "standard"))
    assert steep.interval[1] < standard.interval[0]


def test_who_leaves_the_plateau_first():
    until = {method: text_claims.read_until(at(256, method), 2.0) for method in COMPARED}
    slowest = max(max(until[method]) for method in FINE)
    assert slowest < min(until["mlr_coarse"])
    assert max(until["mlr_coarse"]) < min(min(until[method]) for method in ("standard", *WINDOWS))
    assert all(mean(until[method]) < mean(until["standard"]) / 2 for method in FINE)
    assert min(until["mlr_steep_sum"]) >= max(until["mlr_steep"])
    for width in WIDTHS:
        until = {method: text_claims.read_until(at(width, method), 2.0) for method in ("standard", *text_claims.MLR)}
        assert all(max(until[method]) < min(until["standard"]) / 2 for method in text_claims.MLR)


def overlap(a: dict, b: dict) -> bool:
    return not text_claims.beats(a, b) and not text_claims.beats(b, a)


def test_rotary_positions_leave_mlr_attention_no_lead():
    for width in (256, 512):
        rival, steep, both = (at(width, method) for method in ("standard_rotary", "mlr_steep", "mlr_steep_rotary"))
        assert text_claims.beats(rival, at(width, "standard"))
        assert overlap(rival, steep)
        assert overlap(both, steep)
        assert overlap(rival, both) if width == 256 else text_claims.beats(rival, both)
        assert not text_claims.beats(at(width, "mlr_gain"), rival)
        assert steep["training_macs_a_model"] < rival["training_macs_a_model"]
        until = {method: text_claims.read_until(at(width, method), 2.0) for method in (*text_claims.MLR, *ROTARY)}
        first = min(min(until[method]) for method in text_claims.MLR)
        assert max(until["standard_rotary"]) <= first
        assert max(until["mlr_steep_rotary"]) < first
        assert [rank // 2 for rank in both["options"][0]["ranks"]][-2:] == [4, 4]  # speeds of a level


def test_rotary_positions_at_equal_macs_and_seconds():
    for width in (256, 512):
        for currency in ("training_macs_a_model", "seconds_a_model"):
            _, learned, both = text_claims.relative_positions(RECORDS, width, currency)
            assert learned.holds is None
            assert both.holds is (None if currency == "training_macs_a_model" else False)
        rotary, steep = (at(width, method)["seconds_a_step"] for method in ("standard_rotary", "mlr_steep"))
        assert rotary > 1.2 * steep


def test_where_learned_positions_are_behind_rotary_ones():
    def less(width, method):
        """By seed and stretch, than the mean of standard attention with rotary positions."""
        mean_loss = text_claims.by_position(at(width, "standard_rotary"))[1]
        seeds = [model["by_position"]["loss"] for model in at(width, method)["by_seed"]]
        return [[a - b for a, b in zip(one, mean_loss, strict=True)] for one in seeds]

    def behind(width, method, stretch):
        rival = max(one[stretch] for one in less(width, "standard_rotary"))
        return min(one[stretch] for one in less(width, method)) > rival

    for width in (256, 512):
        names, _ = text_claims.by_position(at(width, "standard"))
        assert min(mean(list(column)) for column in zip(*less(width, "standard"), strict=True)) > 0
        assert all(behind(width, "standard", stretch) for stretch in range(names.index("5-8"), len(names)))
        middle = range(names.index("9-16"), names.index("129-256") + 1)
        assert all(behind(width, "mlr_steep", stretch) for stretch in middle)
        last = [one[-1] for one in less(width, "mlr_steep")]
        assert mean(last) < 0
        assert max(last) > min(one[-1] for one in less(width, "standard_rotary"))
        gains = {
            method: places[-2] - places[-1]
            for method in ("standard", "mlr_steep", *ROTARY)
            for _, places in [text_claims.by_position(at(width, method))]
        }
        assert max(abs(gains[method]) for method in ROTARY) < min(gains["standard"], gains["mlr_steep"]) / 2


def test_with_a_long_context_learned_positions_are_not_learned_in_time():
    long = {method: text_claims.at_width(LONG, method, 512)[0] for method in ("standard", *text_claims.MLR, *ROTARY)}
    until = {method: text_claims.read_until(run, 2.0) for method, run in long.items()}
    assert until["standard"] == [None] * 3
    assert min(model["held_out_loss"] for model in long["standard"]["swept"]) > 2.2
    assert max(until["standard_rotary"]) < min(min(until[method]) for method in text_claims.MLR)
    assert long["standard"]["held_out_loss"] > 1.9 * max(long[method]["held_out_loss"] for method in text_claims.MLR)
    assert min(long, key=lambda method: long[method]["held_out_loss"]) == "standard_rotary"
    assert text_claims.beats(long["standard_rotary"], long["mlr_steep_rotary"])
    assert all(run["held_out_loss"] > at(512, method)["held_out_loss"] for method, run in long.items())
    assert all(run["characters_a_model"] == at(512, method)["characters_a_model"] for method, run in long.items())


def test_longer_trainings_of_standard_attention_end_higher_or_much_lower():
    change = {}
    for width in (256, 512):
        first, again = text_claims.at_width(RECORDS, "standard", width)
        change[width] = again["held_out_loss"] - first["held_out_loss"]
    assert change[256] > 0
    lead = max(at(512, "standard")["held_out_loss"] - at(512, method)["held_out_loss"] for method in text_claims.MLR)
    assert -change[512] > lead / 2


def test_at_equal_seconds_wide_standard_models_catch_up():
    won = {
        method: [text_claims.below_standard(RECORDS, method, width, "seconds_a_model").holds for width in WIDTHS]
        for method in text_claims.MLR
    }
    assert won["mlr_steep"] == [True, True, True, None]
    assert won["mlr_gain"] == [True, True, False, False]


def test_a_step_of_the_same_model_varies_by_less_than_what_counts_as_equal():
    for width in text_claims.widths_of(RECORDS):
        first, again = (run["seconds_a_step"] for run in text_claims.at_width(RECORDS, "standard", width))
        assert abs(again / first - 1) < text_claims.TOLERANCE


def test_sharper_scores_lead_early_and_lose_late():
    for soft, sharp in (("mlr", "mlr_gain"), ("mlr_steep", "mlr_steep_sum")):
        early = [min(model["held_out_loss"] for model in at(256, method)["swept"]) for method in (soft, sharp)]
        assert early[1] < early[0]
        assert text_claims.beats(at(256, soft), at(256, sharp))


def test_where_in_the_context_the_lead_is():
    def less(width, method):
        both = (text_claims.by_position(at(width, m))[1] for m in (method, "standard"))
        return [a - b for a, b in zip(*both, strict=True)]

    for width in text_claims.widths_of(RECORDS):
        assert all(max(less(width, method)[2:]) < 0 for method in text_claims.MLR)
    gain, steep = less(256, "mlr_gain"), less(256, "mlr_steep")
    assert gain[-1] > gain[6]
    assert steep[-1] <= steep[6]
    assert all(less(256, method)[-1] == max(less(256, method)) for method in ("swa", "sequential"))


def test_features_for_the_whole_context_and_for_the_smallest_blocks():
    lists = rank_surrogate.recorded(records.read_record("lm_ranks"))
    loss = {ranks: mean(seeds) for ranks, seeds in lists.items()}
    assert len(lists) == 24
    assert {len(seeds) for seeds in lists.values()} == {2}
    few, many = ([one for r, one in loss.items() if r[0] <= 8], [one for r, one in loss.items() if r[0] >= 24])
    assert min(few) > max(many)
    assert max(many) - min(many) < max(abs(a - b) for ranks, (a, b) in lists.items() if ranks[0] < 24)
    half = [one for ranks, one in loss.items() if ranks[3] >= 32]
    assert min(half) > max(one for ranks, one in loss.items() if ranks[3] <= 8)
    assert max(ranks[0] for ranks in lists) == 52
    spared = min((ranks for ranks in lists if ranks[0] >= 24), key=lambda ranks: ranks[0])
    assert rank_surrogate.score_cost(spared) < 0.5


def test_steps_and_edges():
    for case, rows in records.read_record("step_speed")["cases"].items():
        times = {method: row["ms"] / rows["standard"]["ms"] for method, row in rows.items()}
        assert [method for method in WINDOWS if times[method] < 1] == ["sequential"]
        assert case.startswith("T8192") or min(times[method] for method in text_claims.MLR) > 1
    assert edges(*text_claims.MLR) == {"upper"}
    assert edges(*ROTARY) == {"upper"}
    assert all(at(256, method)["best_rate_is_at_the_edge"] for method in ROTARY)
    assert edges(*WINDOWS) == {"lower", "upper"}
    assert edges("standard") == {"lower"}
    assert at(384, "standard")["best_rate_is_at_the_edge"]


def edges(*methods: str) -> set[str]:
    """At which end of their sweeps the best rates of these methods are, where they are at one."""
    swept = [run for method in methods for run in text_claims.runs_of(RECORDS, method) if run["swept"]]
    ends = [("lower" if run["best_rate"] < max(one["rate"] for one in run["swept"]) else "upper", run) for run in swept]
    return {end for end, run in ends if run["best_rate_is_at_the_edge"]}
