"""Expected errors as members of the operations' result unions.

The exceptions of `domain.errors` are what the resolvers raise; each has a type here that shows it.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Union

import strawberry
from strawberry.types.field import StrawberryField
from strawberry.types.info import Info
from strawberry.utils.str_converters import to_camel_case

import domain.errors
from domain.errors import ConflictReason, DomainError, ErrorCode


@strawberry.interface(description="An expected refusal. `... on Error { code message }` reads every one.")
class Error:
    code: ErrorCode = strawberry.field(description="What kind of refusal it is; programs should go by this.")
    message: str = strawberry.field(description="What is wrong, for a person.")


@strawberry.type(description="One thing wrong with one input field.")
class FieldError:
    message: str = strawberry.field(description="What is wrong with the field's value.")

    @strawberry.field(description='The field\'s place in the input, outermost first: `["source", "path"]`.')
    @staticmethod
    def path(root: strawberry.Parent[domain.errors.FieldError]) -> list[str]:
        return [to_camel_case(part) for part in root.path]


@strawberry.type(description="The input is not acceptable; nothing was stored.")
class ValidationError(Error):
    fields: list[FieldError] = strawberry.field(description="Each thing that is wrong.")


@strawberry.type(description="There is no such thing, or it is not yours.")
class NotFoundError(Error):
    pass


@strawberry.type(description="The present state does not allow it.")
class ConflictError(Error):
    reason: ConflictReason = strawberry.field(description="Which fact stands against it.")


@strawberry.type(description="The operation destroys something; ask again with `confirm: true` if that is meant.")
class ConfirmationRequiredError(Error):
    pass


@strawberry.type(description="Your role does not allow it.")
class ForbiddenError(Error):
    pass


@strawberry.type(description="It is named, but does not work yet.")
class UnsupportedError(Error):
    pass


@strawberry.type(description="A component does not answer; trying again later may help.")
class UnavailableError(Error):
    pass


@strawberry.type(description="A limit of the server was reached; asking for less, or later, may help.")
class LimitExceededError(Error):
    pass


_PAIRS: tuple[tuple[type[DomainError], type[Error]], ...] = (
    (domain.errors.ValidationError, ValidationError),
    (domain.errors.NotFoundError, NotFoundError),
    (domain.errors.ConflictError, ConflictError),
    (domain.errors.ConfirmationRequiredError, ConfirmationRequiredError),
    (domain.errors.ForbiddenError, ForbiddenError),
    (domain.errors.UnsupportedError, UnsupportedError),
    (domain.errors.UnavailableError, UnavailableError),
    (domain.errors.LimitExceededError, LimitExceededError),
)


class _Expected:
    """Turns one kind of exception into the member of the field's union that shows it: the same attributes."""

    def __init__(self, exception_type: type[DomainError], error_type: type[Error]) -> None:
        self.exception_type = exception_type
        self.error_type = error_type
        self._attributes = [attribute.name for attribute in dataclasses.fields(error_type)]

    def handle(self, exception: DomainError, *, field: StrawberryField, info: Info) -> Error:
        return self.error_type(**{name: getattr(exception, name) for name in self._attributes})


EXCEPTION_HANDLERS = [_Expected(exception, error) for exception, error in _PAIRS]


def result_union(name: str, *members: type) -> Any:
    """The union of what an operation gives and every expected error."""
    union = strawberry.union(name, description="The result, or an expected error.")
    return Annotated[Union[(*members, *(error for _, error in _PAIRS))], union]  # made of a tuple
