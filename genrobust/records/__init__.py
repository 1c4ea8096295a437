"""What a run says of itself: records, read in any version, and the pictures beside them."""
