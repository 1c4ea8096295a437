"""What attacks found of single sources, and what follows from it: scores, intervals, flags."""
