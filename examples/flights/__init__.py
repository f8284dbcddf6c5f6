"""Which flights out of New York arrive late, and why: from raw files to a page of charts."""
