"""What an answer is made with. The evaluation takes a part away to show what it is worth; every surface uses all of them."""

from __future__ import annotations

from dataclasses import dataclass

from kb.search import Mode


@dataclass(frozen=True, slots=True)
class Parts:
    """`search` None: documents are not searched. With `verdict` false the first document found is the answer, always."""

    signatures: bool = True
    search: Mode | None = "hybrid"
    verdict: bool = True


ALL = Parts()
