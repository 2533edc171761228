"""What may vary: parameters, the space they span, and how `build(hp)` declares it."""

from hpcompss.space.parameters import Boolean, Choice, Condition, Fixed, Float, Int, Parameter
from hpcompss.space.space import Space

__all__ = ["Boolean", "Choice", "Condition", "Fixed", "Float", "Int", "Parameter", "Space"]
