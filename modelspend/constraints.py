"""What a profile, a tenant or a workflow allows of models."""

from modelspend.record import record


@record
class Constraints:
    """What a profile, a tenant or a workflow allows. Empty and null allow everything."""

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    no_training: bool = False
    max_pico: int | None = None

    def within(self, other: "Constraints") -> "Constraints":
        """Both at once: a list narrows a list, the lower maximum holds."""
        maxima = [most for most in (self.max_pico, other.max_pico) if most is not None]
        return Constraints(
            providers=_both(self.providers, other.providers),
            regions=_both(self.regions, other.regions),
            no_training=self.no_training or other.no_training,
            max_pico=min(maxima) if maxima else None,
        )


NOBODY = "-"
"""Stands alone in a list of constraints that leave no choice: no provider has this name."""


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if not one or not other:
        return one or other
    return tuple(name for name in one if name in other) or (NOBODY,)
