"""Runtimes, a file each: how one loads a model file, runs it over images, and is called once to be timed.

These files need Python, numpy and their runtime, and nothing of the rest of this package but each other: they are sent as they
are to a machine that is reached through ssh (:mod:`spaceevo.latency.machines.ssh`).
"""
