"""Lightning modules for teacher, BKD, supernet and QAT; BatchNorm recalibration; evaluation."""
