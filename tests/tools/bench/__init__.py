"""`make bench`: the whole pipeline on real processes, measured from outside."""
