"""Steps to equal losses, counted from curves."""

from relatent.benchmarks.research.codec_phase1 import compare, steps_to, table


def test_a_loss_counts_as_reached_where_the_curve_stays_below():
    curve = [(10, 5.0), (20, 2.0), (30, 3.0), (40, 1.5), (50, 1.4)]
    assert steps_to(curve, 2.0) == 40
    assert steps_to(curve, 5.0) == 10
    assert steps_to(curve, 1.0) is None


def test_the_slower_one_needs_more_steps():
    fast = [[(10, 8.0), (20, 2.0), (30, 1.0)], [(10, 8.0), (20, 2.1), (30, 1.1)]]
    slow = [[(10, 8.0), (20, 4.0), (30, 2.0)], [(10, 8.0), (20, 4.0), (30, 2.0)]]
    result = compare({"off": fast, "on": slow})
    worst = result["steps_to_loss"][-1]
    assert (worst["loss"], worst["off"], worst["on"]) == (2.0, [20, 30], [30, 30])
    assert result["last_loss"] == {"off": [1.0, 1.1], "on": [2.0, 2.0]}
    lines = table(result).splitlines()
    assert lines[-1] == "| test loss at the end | 1.0500 (1.0000 to 1.1000) | 2.0000 (2.0000 to 2.0000) |"
    assert "reached by 0 of 2" in lines[4]
