"""From a trained subnet to a file that a runtime executes: integer model, writers, parity check and model card."""
