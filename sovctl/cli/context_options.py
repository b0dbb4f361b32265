"""Options of the verbs that make a context."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

TrustDomain: TypeAlias = Annotated[str, typer.Option(metavar="DOMAIN", help="Trust domain.")]
Project: TypeAlias = Annotated[
    str, typer.Option(metavar="PATH", help="Project of jobs that name none.")
]
SaveAs: TypeAlias = Annotated[
    str, typer.Option("--as", metavar="NAME", help="The context's name; default: from yours.")
]
