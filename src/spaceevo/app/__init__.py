"""What every entrypoint shares: configs, command lines, artifacts. No torch."""
