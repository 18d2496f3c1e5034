"""BD-rate: on curves whose answer is known, and on published ones."""

from math import exp, log

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.codec.evaluation.bd_rate import bd_rate, in_order, overlap, rate_at
from relatent.systems.codec.evaluation.reference_curves import load_references

CURVE = [(0.1, 27.0), (0.2, 30.0), (0.45, 33.5), (0.9, 37.0)]
# per cent, to one digit, as stated by the project that handed the fixtures over
AGAINST_VTM = {
    "bmshj2018-factorized": 68.1,
    "bmshj2018-hyperprior": 30.5,
    "mbt2018-mean": 21.3,
    "cheng2020-anchor": 3.7,
    "elic2022": -7.0,
    "HPCM-Base": -16.0,
    "JPEG": 208.5,
    "JPEG2000": 98.0,
    "WebP": 78.7,
    "BPG 8b 444 x265 ycbcr": 22.0,
}
AGAINST_JPEG = {"bmshj2018-hyperprior": -55.0, "mbt2018-mean": -58.0, "WebP": -36.2}
ROUNDING = 0.0501  # half a digit; WebP's figure is 78.7498


@pytest.fixture(scope="module")
def published(references):
    return load_references(references)


@pytest.mark.parametrize("name", AGAINST_VTM)
def test_published_curves_against_vtm(published, name):
    assert bd_rate(published["VTM"], published[name]) == pytest.approx(AGAINST_VTM[name], abs=ROUNDING)


@pytest.mark.parametrize("name", AGAINST_JPEG)
def test_published_curves_against_jpeg(published, name):
    assert bd_rate(published["JPEG"], published[name]) == pytest.approx(AGAINST_JPEG[name], abs=ROUNDING)


def test_published_refinement(published):
    """Yang et al. 2020: stochastic Gumbel annealing against the model that it starts from."""
    assert bd_rate(published["yang2020-mbt2018"], published["yang2020-sga"]) == pytest.approx(-15.2, abs=ROUNDING)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_constant_factor_is_found(factor):
    other = [(factor * rate, psnr) for rate, psnr in CURVE]
    assert bd_rate(CURVE, other) == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_straight_lines_of_log_rate_are_exact_with_any_points():
    """log rate = psnr / 6 against psnr / 5 - 1: the mean difference over 28 to 36 dB is that at 32 dB."""
    one = [(exp(p / 6), p) for p in (20.0, 28.0, 33.0, 36.0)]
    other = [(exp(p / 5 - 1), p) for p in (28.0, 30.0, 41.0)]
    assert overlap(one, other) == (28.0, 36.0)
    assert bd_rate(one, other) == pytest.approx(100 * (exp(32 / 5 - 1 - 32 / 6) - 1), abs=1e-9)
    assert (1 + bd_rate(one, other) / 100) * (1 + bd_rate(other, one) / 100) == pytest.approx(1)


def test_order_and_repetition_do_not_matter():
    shuffled = [CURVE[2], CURVE[0], CURVE[3], CURVE[2], CURVE[1], (0.5, 33.5)]  # the last costs more for the same PSNR
    assert in_order(shuffled) == CURVE
    other = [(0.7 * rate, psnr + 0.3) for rate, psnr in CURVE]
    assert bd_rate(shuffled, other) == bd_rate(CURVE, other)


def test_rate_at_a_psnr():
    line = [(exp(p / 6), p) for p in (20.0, 28.0, 36.0)]
    assert log(rate_at(line, 31.0)) == pytest.approx(31 / 6)
    assert rate_at(line, 36.0) == pytest.approx(exp(6))
    assert rate_at(line, 36.1) is None
    assert rate_at(line, 19.9) is None


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([(0.1, 40.0), (0.2, 45.0)], "share no PSNR, one has 27.00 to 37.00 dB, the other 40.00 to 45.00 dB"),
        ([(0.1, 37.0), (0.2, 45.0)], "share no PSNR"),
        ([(0.1, 30.0)], "at least two points of different PSNR, found 1"),
        ([(0.1, 30.0), (0.2, 30.0)], "found 1"),
        ([], "found 0"),
        ([(0.0, 30.0), (0.2, 33.0)], "expected a rate above 0"),
        ([(0.1, 30.0), (0.2, float("inf"))], "a finite PSNR"),
        ([(0.1, 30.0), (float("nan"), 33.0)], "expected a rate above 0"),
    ],
)
def test_what_has_no_bd_rate(test, message):
    for pair in ((CURVE, test), (test, CURVE)):
        with pytest.raises(UsageError) as caught:
            bd_rate(*pair)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=message):
        bd_rate(CURVE, test)
