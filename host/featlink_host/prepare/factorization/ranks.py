"""How many directions each layer keeps: by energy, by a list, or so that all together meet a budget of MACs."""

from __future__ import annotations

from collections.abc import Mapping

from featlink_codec.errors import SettingsError

from .svd import Factors

#: Halvings of the interval in which the price of a MAC is looked for.
HALVINGS = 60


def by_energy(factors: Mapping[str, Factors], energy: float) -> dict[str, int]:
    """Of each layer that two thinner ones are cheaper for: the least rank that keeps a share of its energy."""
    if not 0 < energy <= 1:
        raise SettingsError(f"energy: found {energy:g}, expected a share above 0 and up to 1")
    ranks = {name: one.rank_for(energy) for name, one in factors.items()}
    return _saving(factors, ranks)


def by_rank(factors: Mapping[str, Factors], rank: int | Mapping[str, int]) -> dict[str, int]:
    """One rank for all layers, or ranks by name for some; only where it saves.

    :raises SettingsError: a rank below 1, or a layer that there is not
    """
    asked = dict(rank) if isinstance(rank, Mapping) else dict.fromkeys(factors, rank)
    for name, one in asked.items():
        if name not in factors:
            raise SettingsError(f"rank: found no layer {name!r} to factorize; there are {', '.join(factors)}")
        if one < 1:
            raise SettingsError(f"rank of {name}: found {one}, expected at least 1")
    return _saving(factors, asked)


def by_budget(factors: Mapping[str, Factors], macs: Mapping[str, int], rest: int, budget: int) -> dict[str, int]:
    """Ranks of least lost energy, all layers' shares added up, for a budget.

    A price for a MAC is looked for; at a price each layer takes the rank, or stays whole, at which lost energy and
    priced MACs together are least.

    :param macs: of each layer, whole
    :param rest: MACs of everything that is not factorized
    :param budget: MACs of the network
    :raises SettingsError: the budget is below what rank 1 everywhere comes to
    """
    least = rest + sum(min(macs[name], _macs(one, 1, macs[name])) for name, one in factors.items())
    if budget < least:
        every = rest + sum(macs[name] for name in factors)
        raise SettingsError(
            f"budget of {budget} MACs: with rank 1 everywhere {least} are left, {least / every:.3f} of all"
        )

    def at(price: float) -> tuple[dict[str, int], int]:
        ranks, whole = {}, rest
        for name, one in factors.items():
            choices = [(price * macs[name], 0)]
            choices += [
                (one.lost(rank) + price * _macs(one, rank, macs[name]), rank)
                for rank in range(1, min(one.largest_saving, len(one.energies)) + 1)
            ]
            _, rank = min(choices)
            if rank:
                ranks[name] = rank
            whole += _macs(one, rank, macs[name]) if rank else macs[name]
        return ranks, whole

    if rest + sum(macs[name] for name in factors) <= budget:
        return {}
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        price = (low + high) / 2
        if at(price)[1] > budget:
            low = price
        else:
            high = price
    return at(high)[0]


def _macs(factors: Factors, rank: int, whole: int) -> int:
    """MACs of two layers instead of one."""
    v, u = factors.shape
    return whole * rank * (u + v) // (u * v)


def _saving(factors: Mapping[str, Factors], ranks: Mapping[str, int]) -> dict[str, int]:
    return {name: rank for name, rank in ranks.items() if rank <= factors[name].largest_saving}
