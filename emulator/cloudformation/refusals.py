"""What CloudFormation says no with; its code for nearly everything is ValidationError."""

from emulator.refusal import Refused


def invalid(message: str) -> Refused:
    return Refused(message, "ValidationError")


def not_here(what: str) -> Refused:
    """CloudFormation has it; this platform does not."""
    return invalid(f"{what} is not available here.")
