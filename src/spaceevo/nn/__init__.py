"""Elastic ops, the supernet, subnet extraction, LSQ+ quantizers and losses."""
