"""What a stranger's module is made of, and what its halves take and give: read, not yet tried."""
