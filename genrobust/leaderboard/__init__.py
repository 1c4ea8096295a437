"""The leaderboard: entries as data, their verification, and the static site."""
