"""What goes on around runs: whose turn it is, who is told how they ended, and what starts them."""
