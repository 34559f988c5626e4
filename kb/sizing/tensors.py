"""A tensor as a checkpoint describes it: type and shape, without its values."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

# The types of the safetensors format and their bits; F4 and F6 pack several values into a byte.
BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32},
    **{"U64": 64, "I64": 64, "F64": 64, "C64": 64},
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Type as safetensors spells it (`BF16`, `F8_E4M3`, `U8`, …), and shape; a shape of no dimensions is one value."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many values it has."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """The bytes that its values take in a file. Raises KeyError for a type that the format does not have."""
        return (self.count * BITS[self.dtype] + 7) // 8
