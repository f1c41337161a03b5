"""Parts of `scripts/crash`."""
