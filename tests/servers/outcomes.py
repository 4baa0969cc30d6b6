"""What became of a command."""

from milonga.lrc import Invocation, Outcome

__all__ = ["ended"]


def ended(invocation: Invocation, seconds: float = 20.0) -> Outcome:
    """Wait for the end of a command."""
    outcome = invocation.wait(seconds)
    assert outcome is not None
    return outcome
