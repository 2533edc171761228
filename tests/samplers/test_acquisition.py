from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from hpcompss.samplers.numerics.acquisition import log_expected_improvement, log_h, log_h_slope

# By mpmath with 60 digits.
EXACT = [
    (-1000000.0, -500000000028.55, 1000000.000002),
    (-1000.0, -500014.73445209116, 1000.001999994),
    (-38.0, -730.1961834021138, 38.05252276004133),
    (-6.1, -23.214640722962002, 6.405405887447655),
    (-5.9, -21.95266848152973, 6.214398270232836),
    (-3.0, -7.869686059603029, 3.5323375176251606),
    (-1.1, -2.6791783824760533, 1.977077087305481),
    (-0.9, -2.298282989459652, 1.8326998049212273),
    (-0.0, -0.9189385332046728, 1.2533141373155003),
    (0.5, -0.3598276837450638, 0.9909227180041099),
    (2.0, 0.6973835457882284, 0.48655931878528386),
    (40.0, 3.6888794541139363, 0.025),
    (1000000.0, 13.815510557964274, 1e-06),
]


@pytest.mark.parametrize(("z", "value", "slope"), EXACT)
def test_it_is_exact_to_the_last_digits(z: float, value: float, slope: float) -> None:
    assert float(log_h(z)) == pytest.approx(value, rel=1e-13)
    assert float(log_h_slope(z)) == pytest.approx(slope, rel=1e-13)


def test_where_its_formulas_meet_it_is_smooth() -> None:
    for seam in (-6.0, -1.0):
        z = seam + np.linspace(-1e-6, 1e-6, 201)
        slopes = np.diff(log_h(z)) / np.diff(z)
        np.testing.assert_allclose(slopes, log_h_slope((z[1:] + z[:-1]) / 2), rtol=2e-5)
        assert np.abs(np.diff(log_h_slope(z))).max() < 1e-7


def test_it_is_the_expected_improvement() -> None:
    for mean, deviation, incumbent in ((0.3, 0.7, 0.1), (-2.0, 0.5, 1.0), (4.0, 1.5, 0.0)):
        normal = stats.norm(mean, deviation)

        def gain(value: float, normal: stats.rv_continuous = normal, incumbent: float = incumbent) -> float:
            return float((incumbent - value) * normal.pdf(value))

        expected, _ = integrate.quad(gain, mean - 12 * deviation, incumbent)
        assert float(log_expected_improvement(mean, deviation, incumbent)) == pytest.approx(math.log(expected))


def test_without_doubt_it_is_the_improvement() -> None:
    found = log_expected_improvement([0.0, 2.0], 0.0, 1.0)
    assert found.tolist() == [0.0, -math.inf]


def test_extremes_stay_numbers() -> None:
    z = np.array([-np.inf, -1e300, -1e200, 1e200, np.inf])
    assert log_h(z).tolist() == [-math.inf, -math.inf, -math.inf, math.log(1e200), math.inf]
    assert np.all(np.isfinite(log_h_slope(z)))
    assert log_h(np.empty((0, 2))).shape == (0, 2)
