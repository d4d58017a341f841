"""Price stored calls again: preview what that changes, apply it, take it back."""
