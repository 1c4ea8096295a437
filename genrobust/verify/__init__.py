"""What is checked of a submission: it agrees with itself, a replay, attacks again."""
