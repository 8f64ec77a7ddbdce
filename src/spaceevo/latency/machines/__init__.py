"""Machines that files are timed on: this one, one behind ssh, one behind adb. All are asked the same (:mod:`.machine`)."""
