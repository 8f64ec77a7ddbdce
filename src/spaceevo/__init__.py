"""SpaceEvo: INT8 models that are fast on a given device."""
