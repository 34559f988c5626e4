"""What follows from the name of a GPU: kb/data/gpus.tsv, as drivers and people write the names."""

import pytest

from assistant.hardware import capability_said


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("Tesla K80", 3.7),
        ("Tesla M40", 5.2),
        ("NVIDIA GeForce GTX 1080 Ti", 6.1),
        ("Tesla V100-SXM2-32GB", 7.0),
        ("Quadro RTX 6000", 7.5),
        ("NVIDIA A100-SXM4-80GB", 8.0),
        ("NVIDIA RTX A4500", 8.6),
        ("NVIDIA A10G", 8.6),
        ("NVIDIA RTX 6000 Ada Generation", 8.9),
        ("NVIDIA RTX 4000 SFF Ada Generation", 8.9),
        ("NVIDIA L40S", 8.9),
        ("NVIDIA GH200 480GB", 9.0),
        ("NVIDIA H20", 9.0),
        ("NVIDIA B200", 10.0),
        ("NVIDIA GB300", 10.3),
        ("NVIDIA Thor", 11.0),
        ("NVIDIA RTX PRO 4500 Blackwell", 12.0),
        ("8 张 RTX 5090", 12.0),
        ("NVIDIA GB10", 12.1),
        ("a GPU with 24 GB", None),
        ("A100 and T4", None),
    ],
)
def test_a_name_tells_the_compute_capability(name: str, capability: float | None) -> None:
    assert capability_said([name]) == capability
