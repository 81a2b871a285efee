"""What every implementation of a protocol must do: one class of tests for each protocol, run for each implementation."""
