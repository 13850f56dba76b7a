"""Everything that can go wrong, sorted by whose fault it is. Knows no status code and no foreign error name.

    Fault
    ├── KeyFault          NoKey  BadKey  WorkspaceUnknown  NotPermitted
    ├── RequestFault      NotJson  BodyTooLarge  BodyTooSlow  NoSuchRoute  MethodRefused
    ├── ModelFault        ModelMissing  UnknownModel  WrongEndpoint  ModelDenied  SyncRefused  AsyncRefused
    ├── OrderFault        BadOrder  InputMissing  InputNotObject  SameKeyOtherOrder  NotWaiting  PromptRefused
    │                     OutputRefused
    ├── InputFault        InputMalformed  InputTooLarge  InputUnreachable  InputForbidden  InputUndecodable
    │                     InputOutOfBounds  InputRefused  MaskMismatch  MaskEmpty  BoxOutside
    ├── LimitFault        QuotaExhausted  RateExceeded  QueueFull
    └── ServiceFault      EngineFailed  OutOfTime  Unchecked  Unavailable  Internal

Rooms raise these deep; a wire dialect owns the table that turns a leaf into its own status, code and message, and a
test walks this tree and fails on a leaf without a row. The docstring of a leaf is its default message. A fault that
ends a job is stored by its class name and message (`FAULTS` finds the class again).
"""

from __future__ import annotations

from collections.abc import Iterator


class Fault(Exception):
    """Something went wrong."""

    def __init__(
        self, message: str | None = None, *, field: str | None = None, after: float | None = None
    ) -> None:
        """`message` is shown to the caller; `field` names the offending member in the dialect's own spelling;
        `after` is in how many seconds the same request may pass, where that is known."""
        self.message = message if message is not None else (type(self).__doc__ or "").strip()
        self.explicit = message is not None
        self.field = field
        self.after = after
        super().__init__(self.message)


class KeyFault(Fault):
    """The caller could not be identified."""


class NoKey(KeyFault):
    """No API key was provided."""


class BadKey(KeyFault):
    """The API key is unknown, expired or revoked."""


class WorkspaceUnknown(KeyFault):
    """The workspace is unknown, or is not one that this key may name."""


class NotPermitted(KeyFault):
    """The key may not do this."""


class RequestFault(Fault):
    """The request cannot be read."""


class NotJson(RequestFault):
    """The body is not a JSON object that this service reads."""


class BodyTooLarge(RequestFault):
    """The body is larger than this route accepts."""


class BodyTooSlow(RequestFault):
    """The body did not arrive in time."""


class NoSuchRoute(RequestFault):
    """There is nothing at this path."""


class MethodRefused(RequestFault):
    """This path does not answer that method."""


class ModelFault(Fault):
    """The model cannot serve this request."""


class ModelMissing(ModelFault):
    """The request names no model."""


class UnknownModel(ModelFault):
    """No model of that name is in the catalogue."""


class WrongEndpoint(ModelFault):
    """The model is served under another path."""


class ModelDenied(ModelFault):
    """This key may not use the model."""


class SyncRefused(ModelFault):
    """The path answers asynchronous calls only."""


class AsyncRefused(ModelFault):
    """The path answers synchronous calls only."""


class OrderFault(Fault):
    """The order is not one that the model takes."""


class BadOrder(OrderFault):
    """A value of the order is missing, malformed or out of range."""


class InputMissing(OrderFault):
    """The request has no input."""


class InputNotObject(OrderFault):
    """The input of the request is not an object."""


class SameKeyOtherOrder(OrderFault):
    """The idempotency key was used before with another request."""


class NotWaiting(OrderFault):
    """The job has begun or ended, or there is none: it cannot be taken back."""


class PromptRefused(OrderFault):
    """The prompt asks for something that is not painted here."""


class OutputRefused(OrderFault):
    """What was made may not be shown."""


class InputFault(Fault):
    """An input picture cannot be used."""


class InputMalformed(InputFault):
    """The reference is neither a URL nor Base64 data."""


class InputTooLarge(InputFault):
    """The file of an input picture is too large."""


class InputUnreachable(InputFault):
    """An input picture could not be downloaded."""


class InputForbidden(InputFault):
    """The address of an input picture is not a public one."""


class InputUndecodable(InputFault):
    """An input is not a picture, is damaged, or is of a format that is not read."""


class InputOutOfBounds(InputFault):
    """The sides of an input picture are too small or too large."""


class InputRefused(InputFault):
    """An input picture shows what is not worked on here."""


class MaskMismatch(InputFault):
    """The mask is not of the size of its picture."""


class MaskEmpty(InputFault):
    """The mask selects nothing."""


class BoxOutside(InputFault):
    """A box lies outside its picture."""


class LimitFault(Fault):
    """A limit was reached; the same request may pass later."""


class QuotaExhausted(LimitFault):
    """The tenant's quota of pictures is used up."""


class RateExceeded(LimitFault):
    """Too many requests in too short a time."""


class QueueFull(LimitFault):
    """The queue is full."""


class ServiceFault(Fault):
    """The service failed; the caller did nothing wrong."""


class EngineFailed(ServiceFault):
    """The picture could not be made."""


class OutOfTime(ServiceFault):
    """The picture was not ready in time."""


class Unchecked(ServiceFault):
    """A picture could not be checked, and pictures that were not checked do not pass."""


class Unavailable(ServiceFault):
    """The service cannot take work at the moment."""


class Internal(ServiceFault):
    """Something unexpected happened inside the service."""


def leaves(root: type[Fault] = Fault) -> Iterator[type[Fault]]:
    """Every fault that can be raised: the classes of the tree without subclasses, in the order of this file."""
    children = root.__subclasses__()
    if not children:
        yield root
    for child in children:
        yield from leaves(child)


FAULTS: dict[str, type[Fault]] = {leaf.__name__: leaf for leaf in leaves()}


def restore(name: str, message: str) -> Fault:
    """The stored fault of a job; an unknown name (a row written by a newer version) reads as `Internal`, and an empty
    message as none of its own."""
    return FAULTS.get(name, Internal)(message or None)
