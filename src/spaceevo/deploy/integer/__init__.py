"""The integer model: arithmetic, folding, the numpy reference, and the trained model that it is compared with."""
