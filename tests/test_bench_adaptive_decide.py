"""The benchmark of on-device decisions measures every partition both ways."""

from itertools import product

from bench.adaptive_decide import HEADER, rows


def test_every_kind_and_fit_has_a_row():
    found = rows(1, 2, 1, ((8, 9, 10),))
    kinds = ("whole", "channel", "region", "block")
    assert [(row[1], row[3]) for row in found] == list(product(kinds, ("literal", "least-squares")))
    assert all(len(row) == len(HEADER) and row[0] == "8x9x10" for row in found)
    assert all(float(row[-1]) > 0 for row in found)
