"""One operation as the API's description tells of it: the words that code cannot give."""

from dataclasses import dataclass, field
from typing import Any

from rest_framework.serializers import Serializer

from amplifierd.common.openapi.schema import Schema


@dataclass(frozen=True)
class Operation:
    """A method at a path."""

    # The name that generated clients call it by: verb_noun.
    id: str
    tag: str
    summary: str
    description: str
    # Status → schema of the body; None: there is no body.
    answers: dict[int, Schema | None]
    body: type[Serializer] | None = None
    example: Any = None
    query: type[Serializer] | None = None
    # Names of parameters of the query that no serializer has; their values are texts.
    words: tuple[str, ...] = ()
    # Those of them that must be there.
    needs: tuple[str, ...] = ()
    # Statuses of refusals, beside those that follow from the method and the path.
    errors: tuple[int, ...] = ()
    # Names of headers of the answer, beside those that every answer may have.
    headers: tuple[str, ...] = ()
    # Parameters of paths that can be taken from the answer: name → where it is there.
    gives: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


# Headers of a list that comes in pages.
PAGED = ("Link", "X-Total-Count")
