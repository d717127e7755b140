"""`make bench`: measures the whole pipeline from outside, on real processes."""
