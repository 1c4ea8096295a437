"""What a submission holds: entries, evidence in archives, and outcomes of single sources."""
